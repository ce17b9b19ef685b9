"""Shards of any other format that `datasets` streams, read by a child process, so that no torch is loaded here.

Each file is one row group, read front to back. `python -m headrace.stream.foreign` is the child: it takes what to
read as JSON on stdin and gives Arrow on stdout.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import ChangedSource
from headrace.stream.columns import Compared, chosen, is_text, joined
from headrace.stream.files import ANEW, check, open_file
from headrace.stream.manifest import ManifestFile, RowGroup, RowGroups
from headrace.stream.retry import going_on, is_transient
from headrace.stream.unfit import Unfit, no_column

BATCH_ROWS = 256
SIGNS_S = 0.5
"""Seconds from one sign of life of the child to the next, while it reads and has no rows to give."""
_SIGN = b"."


class ForeignShard:
    """A file whose rows were counted once, by reading it."""

    memory = 0

    def __init__(self, file: ManifestFile, columns: Sequence[str], format_: str, options: Mapping[str, Any]) -> None:
        self._file, self._columns = file, list(columns)
        asked = [[c, str(c.kind), c.by] if isinstance(c, Compared) else [c] for c in columns]
        self._asked = {"format": format_, "options": dict(options), "uri": file.uri, "columns": asked}
        with open_file(file.uri, file.size) as raw:
            check(file, raw)
        self.digest, self.row_groups = (file.footer, file.row_groups) if file.row_groups is not None else self._count()

    def fits(self) -> None:
        """Nothing to find out: `_count` read all of it."""

    def stored(self, row_group: int, columns: int) -> int:
        """Bytes of the file: all of it is read."""
        return self._file.size

    def close(self) -> None:
        """Nothing stays open."""

    def table(self, row_group: int) -> pa.Table:
        """The whole file."""
        return joined(list(self.batches(row_group, 0)))

    def batches(self, row_group: int, rows: int) -> Iterator[pa.Table]:
        """The file front to back."""
        found = 0
        for table in self._read():
            found += table.num_rows
            yield table
        if found < self.row_groups[row_group].rows:
            message = f"{self._file.uri} holds {found} rows where the manifest froze {self.row_groups[row_group].rows}"
            raise ChangedSource(message, ANEW)

    def _count(self) -> tuple[str, RowGroups]:
        digest, rows, size = hashlib.sha256(), 0, 0
        for table in self._read():
            rows += table.num_rows
            size += pc.sum(pc.binary_length(table.column(0))).as_py() or 0
            for text in table.column(0).to_pylist():
                digest.update(b"\0" if text is None else text.encode() + b"\1")
        return digest.hexdigest(), RowGroups([RowGroup(rows, max(1, size))] if rows else [])

    def _read(self) -> Iterator[pa.Table]:
        # USE_TORCH=0: the child has no use for torch either, and loading it takes seconds.
        child = subprocess.Popen(
            [sys.executable, "-m", "headrace.stream.foreign"], env={**os.environ, "USE_TORCH": "0", "USE_TF": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(json.dumps(self._asked).encode())
            child.stdin.close()
            while child.stdout.read(1) == _SIGN:
                going_on()
            with pa.ipc.open_stream(child.stdout) as stream:
                for batch in stream:
                    going_on()
                    *columns, errors = batch.columns
                    failed = errors.drop_null()
                    if len(failed):
                        raise _told(json.loads(failed[0].as_py()))
                    if batch.num_rows:
                        yield pa.table(columns, names=list(map(str, self._columns)))
        except (pa.ArrowInvalid, OSError) as error:
            raise ConnectionError(f"the process that reads {self._file.uri} ended early: {error}") from error
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _told(error: Mapping[str, Any]) -> Exception:
    """What the child met, as an exception that `retrying` knows what to do with."""
    if error["kind"] == "transient":
        return ConnectionError(error["message"])
    return Unfit(error["kind"], error["message"], tuple(error["columns"]))


class _Answer:
    """What the child gives: signs of life, the end of a line, and Arrow, where a sign of life is a batch without rows.

    What goes wrong is the last row of the last column, `error`.
    """

    def __init__(self, out: Any, columns: Sequence[str]) -> None:
        self._out = out
        self._writer: Any = None
        self._schema = pa.schema([(str(c), pa.large_string()) for c in (*columns, "error")])
        self._told = time.monotonic()

    def going_on(self) -> None:
        """Give a sign of life, not too often."""
        if time.monotonic() - self._told < SIGNS_S:
            return
        if self._writer is None:
            self._out.write(_SIGN)
        else:
            self._writer.write_table(pa.table([pa.array([], t) for t in self._schema.types], schema=self._schema))
        self._out.flush()
        self._told = time.monotonic()

    def add(self, table: pa.Table) -> None:
        """Give some rows; the first say in which types columns are given."""
        table = table.append_column("error", pa.nulls(table.num_rows, pa.large_string()))
        if self._writer is None:
            self._begin(table.schema)
        self._writer.write_table(table.cast(self._schema))

    def fail(self, error: Exception) -> None:
        """Tell the parent, which knows what to do about it."""
        if self._writer is None:
            self._begin(self._schema)
        nothing = [pa.nulls(1, t) for t in self._schema.types[:-1]]
        told = pa.array([_told_as(error)], pa.large_string())
        self._writer.write_table(pa.Table.from_arrays([*nothing, told], schema=self._schema))

    def close(self) -> None:
        """End it."""
        if self._writer is None:
            self._begin(self._schema)
        self._writer.close()
        self._out.close()

    def _begin(self, schema: pa.Schema) -> None:
        self._out.write(b"\n")
        self._schema, self._writer = schema, pa.ipc.new_stream(self._out, schema)


def main() -> None:
    """Read what stdin asks for."""
    asked = json.load(sys.stdin)
    wanted = [Compared(c[0], pa.type_for_alias(c[1]), c[2]) if c[1:] else c[0] for c in asked["columns"]]
    answer = _Answer(os.fdopen(os.dup(1), "wb"), wanted)
    os.dup2(2, 1)  # whatever prints must not break the stream
    _tell_of_reads(answer.going_on)
    try:
        for table in _tables(asked, wanted):
            answer.add(table)
    except Exception as error:
        answer.fail(error)
    answer.close()


def _tell_of_reads(tell: Callable[[], None]) -> None:
    """Call it after every read of a remote file: thousands of rows may be read before the first of them is given."""
    from fsspec.spec import AbstractBufferedFile

    read = AbstractBufferedFile.read

    def telling(self: Any, length: int = -1) -> Any:
        data = read(self, length)
        tell()
        return data

    AbstractBufferedFile.read = telling


def _told_as(error: Exception) -> str:
    kind = error.kind if isinstance(error, Unfit) else "transient" if is_transient(error) else "unreadable"
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    columns = list(error.columns) if isinstance(error, Unfit) else []
    return json.dumps({"kind": kind, "message": message, "columns": columns})


def _tables(asked: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[pa.Table]:
    import datasets

    rows: Any = datasets.load_dataset(
        asked["format"], data_files={"train": [asked["uri"]]}, split="train", streaming=True, **asked["options"]
    )
    for table in _as_read(rows):
        names = [str(n) for n in table.schema.names]
        for column in wanted:
            if column not in names:
                raise no_column(column, names)
        table = chosen(table, wanted)
        text = table.column(0)
        if not is_text(text.type) and text.null_count < len(text):
            raise Unfit("wrong-type", f"the column {wanted[0]!r} holds {text.type}, expected text", tuple(names))
        yield table.set_column(0, str(wanted[0]), text.cast(pa.large_string()))


def _as_read(rows: Any) -> Iterator[pa.Table]:
    """Tables of few rows as the file gives them: `iter` joins neighbours, which may hold a column differently."""
    read = rows._ex_iterable.iter_arrow
    if read is None:
        yield from rows.with_format("arrow").iter(BATCH_ROWS)
        return
    for _, table in read():
        for start in range(0, table.num_rows, BATCH_ROWS):
            yield table.slice(start, BATCH_ROWS)


if __name__ == "__main__":
    main()
