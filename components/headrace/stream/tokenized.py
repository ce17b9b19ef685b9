"""A dataset tokenised to disk: the same rows in the same row groups, so that the order is the same too."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.stream.documents import Reader
from headrace.stream.feed import EVERYTHING, Choice, with_ends
from headrace.stream.filters import Filter, first_refusal
from headrace.stream.footer import footer_of
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.manifest import Manifest, ManifestFile, RowGroups
from headrace.stream.order import Piece
from headrace.stream.tokenizer import Encoder
from headrace.stream.windows import Encoded, ReadWindow

INDEX = "tokenized.json"
VERSION = 2
SCHEMA = pa.schema([("input_ids", pa.large_list(pa.int32())), ("hash", pa.uint64()), ("refused", pa.int32())])
"""Ids without EOS and the content hash of a document, null for a blank row; 1 + the filter that refuses it, or 0."""


@dataclass(frozen=True)
class Tokenized:
    """A folder that `save` wrote. source: what was tokenised; tokens: kept documents' ids, EOS included."""

    folder: Path
    source: Manifest
    tokenizer_hash: str
    eos_id: int
    tokens: int
    documents: int
    filters: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Tokenized:
        """What lies in a folder; InputError when it is not a whole tokenised dataset."""
        try:
            index = json.loads((folder / INDEX).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} holds no tokenised dataset: {error}", "make one with --tokenized_dataset_save_dir"
            ) from error
        if index.get("version") != VERSION:
            raise InputError(
                f"{folder / INDEX} has version {index.get('version')!r}, expected {VERSION}", "make it anew"
            )
        source = Manifest.from_json(index["source"])
        known = {k: index[k] for k in ("tokenizer_hash", "eos_id", "tokens", "documents")}
        return cls(folder, source, **known, filters=tuple(index["filters"]))

    def check(self, manifest: Manifest, encoder: Encoder, filters: Sequence[Filter] = ()) -> None:
        """InputError when this was made from other data, or with another tokenizer, than the run's."""
        mine = self.source if manifest.limit is None else self.source.first_rows(manifest.limit)
        if mine.hash != manifest.hash:
            raise InputError(
                f"{self.folder} was tokenised from other data: its manifest is {mine.hash[:12]}, "
                f"the run's {manifest.hash[:12]}",
                "tokenise again with --tokenized_dataset_save_dir, or leave out the other dataset flags",
            )
        if (self.tokenizer_hash, self.eos_id) != (encoder.hash, encoder.eos_id):
            raise InputError(
                f"{self.folder} was made with another tokenizer than {encoder.name}",
                "name the tokenizer it was made with by --tokenizer, or tokenise again",
            )

        if self.filters != tuple(map(str, filters)):
            raise InputError(
                f"{self.folder} was made with the filters {', '.join(self.filters) or 'none'}; the run's are "
                f"{', '.join(map(str, filters)) or 'none'}",
                "give the same --dataset_filter, or tokenise again",
            )

    @cached_property
    def reader(self) -> Reader:
        """A reader of the ids, at the places of the source's rows."""
        shards = self.source.mapped(self._shard)
        parts = tuple(replace(p, format="parquet", options={}) for p in shards.parts)
        return Reader(replace(shards, parts=parts), columns=SCHEMA.names)

    def _shard(self, index: int, source: ManifestFile) -> ManifestFile:
        path = shard_path(self.folder, index)
        try:
            with path.open("rb") as raw:
                digest = footer_of(raw).digest
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path} cannot be read: {error}", "tokenise again") from error
        # Sized as the source's, so that its order holds; stored otherwise, so without their offsets.
        groups = RowGroups([g._replace(offset=0) for g in source.known])
        return replace(
            source, path=path.name, uri=str(path), size=path.stat().st_size, etag="", footer=digest, row_groups=groups
        )


def shard_path(folder: Path, index: int) -> Path:
    """Where the ids of a manifest's file lie."""
    return folder / "data" / f"{index:06d}.parquet"


def save(
    folder: Path,
    manifest: Manifest,
    reader: Reader,
    encoder: Encoder,
    filters: Sequence[Filter] = (),
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tokenized:
    """Tokenise a dataset into a folder and return it, `threads` files at a time.

    Goes on where an earlier call was stopped. progress is called with (rows done, rows in all).
    """
    if (folder / INDEX).is_file():
        there = Tokenized.load(folder)
        there.check(manifest, encoder, filters)
        return there
    (folder / "data").mkdir(parents=True, exist_ok=True)
    names = list(map(str, filters))
    identity = {"manifest": manifest.hash, "tokenizer": encoder.hash, "filters": names}
    _claim(folder, identity)

    def shard(index: int) -> tuple[int, int]:
        path = shard_path(folder, index)
        if not path.is_file():
            _write_shard(path, reader, encoder, filters, index)
        return _count(path)

    tokens = documents = done = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="headrace-tokenise") as pool:
        for file, (found_tokens, found_documents) in zip(
            manifest.files, pool.map(shard, range(len(manifest.files))), strict=True
        ):
            tokens, documents = tokens + found_tokens, documents + found_documents
            done += sum(g.rows for g in file.known)
            if progress is not None:
                progress(done, manifest.rows)
    index_json = {
        "version": VERSION, "source": manifest.to_json(), "tokenizer_hash": encoder.hash, "eos_id": encoder.eos_id,
        "tokens": tokens, "documents": documents, "filters": names,
    }  # fmt: skip
    _replace(folder / INDEX, json.dumps(index_json, indent=1).encode())
    return Tokenized.load(folder)


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Refuse to mix shards of two datasets or tokenizers in one folder."""
    path = folder / "tokenizing.json"
    if path.is_file():
        if json.loads(path.read_text("utf-8")) != identity:
            raise InputError(f"{folder} holds a part of another tokenised dataset", "name an empty folder")
        return
    if any((folder / "data").iterdir()):
        raise InputError(f"{folder / 'data'} holds other files", "name an empty folder")
    _replace(path, json.dumps(identity).encode())


def _write_shard(path: Path, reader: Reader, encoder: Encoder, filters: Sequence[Filter], index: int) -> None:
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for row_group in range(len(reader.shards.row_groups([index])[0])):
            found = [_rows(t, encoder, filters) for t in reader.batches(index, row_group)]
            writer.write_table(pa.concat_tables(found), row_group_size=1 << 40)
    temporary.replace(path)


def _rows(rows: pa.Table, encoder: Encoder, filters: Sequence[Filter]) -> pa.Table:
    refused = first_refusal(filters, rows)
    texts = zip(rows.column(0).to_pylist(), refused.tolist(), strict=True)
    kept = [t if t is not None and not is_blank(t) and not why else None for t, why in texts]
    ids, offsets = encoder.encode([t or "" for t in kept])
    blank = np.array([t is None for t in kept], bool)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids), mask=pa.array(blank))
    hashes = pa.array([None if t is None else content_hash(t) for t in kept], pa.uint64())
    return pa.table([lists, hashes, pa.array(refused, pa.int32())], schema=SCHEMA)


def _count(path: Path) -> tuple[int, int]:
    lengths = pc.list_value_length(pq.read_table(path, columns=["input_ids"]).column(0))
    documents = pc.sum(pc.greater(lengths, 0)).as_py() or 0
    return (pc.sum(lengths).as_py() or 0) + documents, documents


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class TokenFeed:
    """Documents that were tokenised earlier; held-out ones and copies dropped by the hash beside them."""

    def __init__(self, tokenized: Tokenized, choice: Choice = EVERYTHING) -> None:
        self._reader, self._eos_id, self._choice = tokenized.reader, tokenized.eos_id, choice

    def lane(self) -> ReadWindow:
        """A reader for one lane."""
        run = self._reader.run()

        def read(pieces: Sequence[Piece], order: NDArray[np.int64]) -> TokenWindow:
            rows = run.read(pieces)
            refused = rows.column(2).to_numpy().astype(np.int64)
            if self._choice.duplicates is not None:
                copies = (refused == 0) & self._choice.duplicates.dropped(pieces)
                refused[copies] = len(self._choice.reasons) - 1
            if self._choice.dedup == "row_window":
                self._choice.drop_copies(refused, [h or 0 for h in rows.column(1).to_pylist()])
            return TokenWindow(rows.take(order), refused[order], self._eos_id, self._choice)

        return read


class TokenWindow:
    """Rows of `SCHEMA` in the order in which they are trained."""

    def __init__(self, rows: pa.Table, refused: NDArray[np.int64], eos_id: int, choice: Choice) -> None:
        self._rows, self._refused, self._eos_id, self._choice = rows, refused, eos_id, choice
        self._heldout = pa.array(sorted(choice.heldout), pa.uint64())
        lengths = pc.fill_null(pc.list_value_length(rows.column(0)), 0).to_numpy().astype(np.int64)
        self.upto: NDArray[np.int64] = np.cumsum(np.maximum(4 * lengths, 1))  # about four bytes a token

    def encode(self, start: int, stop: int) -> Encoded:
        """Ids of these documents; dropped ones have none."""
        lists, hashes, _ = (c.combine_chunks() for c in self._rows.slice(start, stop - start).columns)
        why = self._refused[start:stop]
        held = pc.fill_null(pc.is_in(hashes, value_set=self._heldout), False).to_numpy(zero_copy_only=False)
        held = held & (why == 0)
        blank = lists.is_null().to_numpy(zero_copy_only=False) & (why == 0)
        lists = pc.if_else(pa.array(held | (why > 0)), None, lists)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        ids: NDArray[Any] = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        dropped = Counter(self._choice.reasons[w] for w in why[why > 0])
        dropped.update({"blank": int(blank.sum()), "heldout": int(held.sum())})
        dropped["no_tokens"] = int(((lengths == 0) & ~blank & ~held & (why == 0)).sum())
        return with_ends(ids.astype(np.int32), offsets, self._eos_id, +dropped)
