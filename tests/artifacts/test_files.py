"""Files that are whole or absent, and strict JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.artifacts import files
from headrace.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no failure
@given(JSON)
def test_canonical_json_reads_back_and_is_one_string_a_value(value: object) -> None:
    try:
        data = files.canonical_json(value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert json.loads(data) == value
    assert files.canonical_json(json.loads(data)) == data


def test_canonical_json_does_not_depend_on_key_order() -> None:
    assert files.canonical_json({"b": 1, "a": "é"}) == files.canonical_json({"a": "é", "b": 1})
    assert files.canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


def test_write_json_keeps_order_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    files.write_json(path, {"b": [1, None], "a": "é"})
    assert list(files.read_json(path)) == ["b", "a"]
    assert path.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_write_json_refuses_what_json_cannot_carry_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": value})
    assert files.read_json(path) == {"loss": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_finite_says_what_it_replaced() -> None:
    answer = files.finite({"loss": math.nan, "step": 3})
    assert answer["loss"] is None and answer["step"] == 3
    assert "nan" in answer["loss_note"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    files.write_bytes(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("text", ["{", "NaN", '{"a": Infinity}', "\xff"])
def test_read_json_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.json does not hold strict JSON"):
        files.read_json(path)


def test_read_json_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        files.read_json(tmp_path / "none.json")


def test_files_below_lists_neither_folders_nor_remains(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "b", b"")
    files.write_bytes(tmp_path / "a" / "c", b"")
    files.temporary_beside(tmp_path / "b").write_bytes(b"half")
    (tmp_path / ".hidden.tmp").write_bytes(b"")
    assert files.files_below(tmp_path) == [".hidden.tmp", "a/c", "b"]


def test_sha256_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "x").startswith("ba7816bf8f01cfea")
