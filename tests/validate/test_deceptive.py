"""Files that say one thing and hold another are findings with the place, and one clear error of a training."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import InputError
from headrace.stream import documents
from headrace.stream.documents import Reader
from headrace.stream.footer import Chunk, chunks_of, footer_of, metadata_of
from tests.stream.conftest import manifest_of
from tests.validate.conftest import Result, texts

Validate = Callable[..., Result]


def claiming(path: Path, **said: int) -> None:
    """A shard of 60 rows whose footer says otherwise."""
    pq.write_table(pa.table({"text": texts(60)}), path)
    with path.open("rb") as raw:
        metadata, _, size = footer_of(raw)
    chunks: Any = chunks_of(metadata, "text")
    footer = io.BytesIO()
    metadata_of(Chunk(*chunks[0].tolist())._replace(**said), "text").write_metadata_file(footer)
    path.write_bytes(path.read_bytes()[:-size] + footer.getvalue()[4:])


@pytest.mark.parametrize("said", [{"rows": 90, "values": 90}, {"rows": 90}, {"rows": 30}])
@pytest.mark.parametrize("large", [False, True])
def test_a_footer_that_counts_wrong(
    said: dict[str, int], large: bool, tmp_path: Path, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(documents, "WHOLE_BYTES", 100)
        monkeypatch.setattr(documents, "STREAMED_BYTES", 500)
    (tmp_path / "data").mkdir()
    claiming(tmp_path / "data" / "a.parquet", **said)
    found = validate(str(tmp_path / "data"))
    code = "unreadable-rows" if "values" in said else "unreadable-file"
    assert found.code == 3 and code in found.codes and "Traceback" not in found.err
    message = found.finding(code)["message"]
    assert "a.parquet" in message and "row group 0" in message and f"its footer says {said['rows']}" in message
    with pytest.raises(InputError, match=rf"a\.parquet: row group 0 holds 60 .*says {said['rows']}"):
        list(Reader(manifest_of(tmp_path / "data"), deadline_s=30.0).rows())


@pytest.mark.parametrize("flags", [(), ("--dataset_filter", "n >= 0")])
@pytest.mark.parametrize("deep", [2_000, 200_000])
def test_lines_nested_too_deep(deep: int, flags: tuple[str, ...], tmp_path: Path, validate: Validate) -> None:
    lines = [json.dumps({"text": t, "n": 1}) for t in texts(40)]
    lines[0] = '{"text": "a deep one", "n": 1, "meta": ' + "[" * deep + "]" * deep + "}"
    lines[30] = lines[0].replace('"a deep one"', "7")
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = validate(str(tmp_path / "a.jsonl"), *flags)
    assert found.code == 3 and "Traceback" not in found.err
    assert found.codes & {"unreadable-file", "wrong-type"} and "a.jsonl" in found.err


def test_a_name_that_is_not_utf8(tmp_path: Path, validate: Validate) -> None:
    (tmp_path / "data").mkdir()
    for i, name in enumerate((b"a.parquet", b"\xff.parquet")):
        pq.write_table(pa.table({"text": texts(40, 40 * i)}), tmp_path / "b.parquet")
        (tmp_path / "b.parquet").rename(tmp_path / "data" / os.fsdecode(name))
    found = validate(str(tmp_path / "data"))
    assert found.code == 3 and found.codes == {"unreadable-file"} and "Traceback" not in found.err
    assert "ff.parquet: its name is not UTF-8" in found.finding("unreadable-file")["message"]
    with pytest.raises(InputError, match="its name is not UTF-8"):
        manifest_of(tmp_path / "data")
