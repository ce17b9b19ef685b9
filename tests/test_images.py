"""Names of images: from the environment, from what was built, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace import __version__, images
from headrace.errors import InputError
from headrace_pipelines.__main__ import main


@pytest.fixture(autouse=True)
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `docker/build` leaves its note; nothing is there yet."""
    for name in ("HEADRACE_IMAGE_REGISTRY", "HEADRACE_IMAGE_REVISION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(images, "_path", lambda: tmp_path / "images.json")
    return tmp_path / "images.json"


def test_without_a_build_they_have_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.image("train") == f"ghcr.io/headrace/headrace-python-train:{__version__}"
    monkeypatch.setenv("HEADRACE_IMAGE_REGISTRY", "registry.example.org/team")
    monkeypatch.setenv("HEADRACE_IMAGE_REVISION", "0123abcd")
    assert images.image("train") == f"registry.example.org/team/headrace-python-train:{__version__}-0123abcd"
    with pytest.raises(KeyError, match="no room is called 'trian'"):
        images.image("trian")


def test_what_was_built_is_named(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = {"image": "r/headrace-python-train:t@sha256:1"}
    note.write_text(json.dumps({"version": __version__, "revision": "abc", "images": {"train": built}}))
    assert images.image("train") == built["image"]
    assert images.image("validate").endswith(f":{__version__}-abc") and images.tag() == f"{__version__}-abc"
    monkeypatch.setenv("HEADRACE_IMAGE_REVISION", "other")
    assert images.image("train").endswith("-other")


def test_images_of_another_version_are_refused(note: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note.write_text(json.dumps({"version": "9.9.9", "revision": "abc", "images": {}}))
    assert images.image("train").endswith(f":{__version__}")
    assert main(["compile", "-o", str(note.with_name("p.yaml"))]) == 2
    said = capsys.readouterr().err
    assert "images of version 9.9.9" in said and "docker/build" in said and not note.with_name("p.yaml").exists()


def test_a_pipeline_names_no_image_that_was_not_built(note: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note.write_text(json.dumps({"version": __version__, "revision": "abc", "images": {"validate": {"image": "r/v:1"}}}))
    assert main(["compile", "-o", str(note.with_name("p.yaml"))]) == 2
    said = capsys.readouterr().err
    assert "docker/build train evaluate" in said and not note.with_name("p.yaml").exists()


@pytest.mark.parametrize(
    ("environ", "fits"),
    [
        ({}, True),
        ({"HEADRACE_EXPECTED_IMAGE": __version__, "HEADRACE_REVISION": "abc"}, True),
        ({"HEADRACE_EXPECTED_IMAGE": f"{__version__}-abc", "HEADRACE_REVISION": "abc"}, True),
        ({"HEADRACE_EXPECTED_IMAGE": f"{__version__}-abc"}, True),  # not an image: the subprocess runner
        ({"HEADRACE_EXPECTED_IMAGE": f"{__version__}-abc", "HEADRACE_REVISION": "abd"}, False),
        ({"HEADRACE_EXPECTED_IMAGE": "9.9.9"}, False),
    ],
)
def test_a_step_knows_the_image_that_it_should_run_in(environ: dict[str, str], fits: bool) -> None:
    if fits:
        images.check_running(environ)
    else:
        with pytest.raises(InputError, match="the pipeline was compiled for"):
            images.check_running(environ)
