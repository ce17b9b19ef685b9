"""What is checked of a package before it is sent, and what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace_pipelines.compiling import check_parameters, compile_package
from headrace_pipelines.launching import split, version_name
from headrace_pipelines.parameters import parameters


def test_the_pipeline_has_every_parameter_that_flags_become(tmp_path: Path) -> None:
    compile_package(tmp_path / "p.yaml", {})
    given = {"dataset_name": "d", "model_name_or_path": "m", "max_steps": 3, "gate": "warn", "gate_threshold": ["a"]}
    check_parameters(tmp_path / "p.yaml", parameters(given))


def test_a_version_is_called_after_images_and_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_IMAGE_REVISION", "A_b+1")
    name = version_name(b"one")
    assert name.endswith("-a-b-1-" + name[-12:]) and name == version_name(b"one") != version_name(b"two")


def test_words_are_cut_at_the_first_dashes() -> None:
    assert split(["a", "--", "b", "--", "c"]) == (["a"], ["b", "--", "c"])
    assert split(["a"]) == (["a"], [])
