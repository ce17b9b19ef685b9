"""Where `headrace compile -o` writes: a whole package, or nothing and one clear error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_pipelines.__main__ import main

ErrorOf = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("more", [[], ["--check", "--dataset_name", "data", "--model_name_or_path", "gpt2"]])
def test_a_folder_is_no_package(more: list[str], tmp_path: Path, error_of: ErrorOf) -> None:
    (tmp_path / "x.yaml").mkdir()
    code, said = error_of("compile", "-o", str(tmp_path / "x.yaml"), *more)
    assert code == 2 and "x.yaml is a folder" in said
    assert list((tmp_path / "x.yaml").iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--check", "--dataset_name", "data", "--model_name_or_path", "gpt2"]])
def test_a_bucket_is_no_file(
    more: list[str], tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = error_of("compile", "-o", "gs://bucket/p.yaml", *more)
    assert code == 2 and "-o gs://bucket/p.yaml is no file of this machine" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_package_of_before(
    tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.yaml").write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headrace.artifacts.files.os.fsync", full)
    code, said = error_of("compile", "-o", str(tmp_path / "p.yaml"))
    assert code == 2 and "cannot write" in said and "No space left on device" in said
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]
    assert (tmp_path / "p.yaml").read_text() == "before"


def test_ctrl_c_leaves_the_package_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text("before")

    def interrupted(*words: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headrace_pipelines.compiling._SHOWN_DICT", type("", (), {"sub": interrupted}))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(main(["compile", "-o", str(tmp_path / "p.yaml")]))
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]
    assert (tmp_path / "p.yaml").read_text() == "before"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert main(["compile", "-o", str(tmp_path / "a" / "b" / "p.yaml")]) == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["p.yaml"]
