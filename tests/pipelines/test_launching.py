"""What is checked of a package before it is sent, and what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headrace.errors import InputError
from headrace_pipelines.compiling import compile_package
from headrace_pipelines.launching import check_arguments, split, version_name
from headrace_pipelines.parameters import parameters


def test_the_pipeline_has_every_parameter_that_flags_become(tmp_path: Path) -> None:
    compile_package(tmp_path / "p.yaml", {})
    check_arguments(tmp_path / "p.yaml", parameters({"dataset_name": "d", "model_name_or_path": "m", "max_steps": 3}))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"a": 1, "z": 2}, "no parameter z; it has a, b, c"), ({"b": 1}, "parameter a has no value")],
)
def test_unknown_and_missing_parameters(arguments: dict[str, int], says: str, tmp_path: Path) -> None:
    inputs = {"a": {}, "b": {"isOptional": True}, "c": {"defaultValue": 1}}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump_all([{"root": {"inputDefinitions": {"parameters": inputs}}}, {"platforms": {}}]))
    check_arguments(path, {"a": 1})
    with pytest.raises(InputError, match=says):
        check_arguments(path, arguments)


def test_a_version_is_called_after_images_and_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_IMAGE_REVISION", "A_b+1")
    name = version_name(b"one")
    assert name.endswith("-a-b-1-" + name[-12:]) and name == version_name(b"one") != version_name(b"two")


def test_words_are_cut_at_the_first_dashes() -> None:
    assert split(["a", "--", "b", "--", "c"]) == (["a"], ["b", "--", "c"])
    assert split(["a"]) == (["a"], [])
