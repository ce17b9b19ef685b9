"""A dataset tokenised to disk gives the same tokens in the same order as one encoded on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import InputError
from headrace.stream import tokenized
from headrace.stream.documents import Reader
from headrace.stream.feed import Choice, TextFeed
from headrace.stream.heldout import make
from headrace.stream.manifest import Manifest
from headrace.stream.shards import Shards
from headrace.stream.steps import StepReader
from headrace.stream.tokenized import INDEX, TokenFeed, Tokenized
from headrace.stream.tokenizer import Encoder
from headrace.stream.windows import Feed
from tests.stream.conftest import manifest_of
from tests.stream.oracle import make_plan


def steps(manifest: Manifest, feed: Feed) -> list[list[tuple[int, list[int]]]]:
    plan = make_plan(lanes=3, global_batch=4, block=64, eos_id=0)
    reader = StepReader(plan, Shards(manifest), feed)
    return [[(g, s.ids.tolist()) for g, s in reader.next_step() if s is not None] for _ in range(200)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Blank rows, nulls and an empty row group among the documents."""
    folder = tmp_path_factory.mktemp("mixed")
    files: dict[str, list[list[str | None]]] = {
        "a": [["one and", None, "two " * 50], [], [" ", "three"]],
        "b": [["four " * 9], [""]],
    }
    for name, groups in files.items():
        with pq.ParquetWriter(folder / f"{name}.parquet", pa.schema([("text", pa.string())])) as writer:
            for texts in groups:
                writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
    return manifest_of(folder)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_tokens_in_the_same_order(mixed: Manifest, encoder: Encoder, threads: int, tmp_path: Path) -> None:
    made = tokenized.save(tmp_path / "t", mixed, Reader(mixed), encoder, threads=threads)
    assert steps(mixed, TokenFeed(made)) == steps(mixed, TextFeed(Reader(mixed), encoder))
    assert made.documents == 4 and made.tokens == sum(
        len(encoder.encode([d.text])[0]) + 1 for d in Reader(mixed).rows() if d.text and d.text.strip()
    )


def test_held_out_documents_are_dropped_by_their_hash(pydocs: Manifest, encoder: Encoder, tmp_path: Path) -> None:
    heldout = make(Reader(pydocs), fraction=0.2).hashes
    made = tokenized.save(tmp_path / "t", pydocs, Reader(pydocs), encoder)
    assert steps(pydocs, TokenFeed(made, Choice(heldout=heldout))) == steps(
        pydocs, TextFeed(Reader(pydocs), encoder, Choice(heldout=heldout))
    )
    assert steps(pydocs, TokenFeed(made, Choice(heldout=heldout))) != steps(pydocs, TokenFeed(made))


def test_it_goes_on_where_it_was_stopped(mixed: Manifest, encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "t"

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        tokenized.save(folder, mixed, Reader(mixed), encoder, progress=stop)
    assert not (folder / INDEX).exists()
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "data").glob("*.parquet")}
    made = tokenized.save(folder, mixed, Reader(mixed), encoder)
    assert before and all((folder / "data" / n).stat().st_mtime_ns == t for n, t in before.items())
    assert steps(mixed, TokenFeed(made)) == steps(mixed, TextFeed(Reader(mixed), encoder))


def test_other_data_or_another_tokenizer_is_refused(
    mixed: Manifest, pydocs: Manifest, encoder: Encoder, tmp_path: Path
) -> None:
    made = tokenized.save(tmp_path / "t", mixed, Reader(mixed), encoder)
    with pytest.raises(InputError, match="other data"):
        made.check(pydocs, encoder)
    made.check(mixed.first_rows(2), encoder)  # a part of it is the same data
    other = Encoder(encoder._tokenizer, eos_id=1, name="other")
    with pytest.raises(InputError, match="another tokenizer"):
        tokenized.save(tmp_path / "t", mixed, Reader(mixed), other)
    (tmp_path / "t" / INDEX).unlink()
    with pytest.raises(InputError, match="part of another"):
        tokenized.save(tmp_path / "t", pydocs, Reader(pydocs), encoder)


def test_a_folder_that_is_none_or_lost_a_file(mixed: Manifest, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenised dataset"):
        Tokenized.load(tmp_path)
    made = tokenized.save(tmp_path / "t", mixed, Reader(mixed), encoder)
    shutil.rmtree(made.folder / "data")
    with pytest.raises(InputError, match="cannot be read"):
        _ = Tokenized.load(made.folder).reader
