"""The `headrace` command itself."""

from __future__ import annotations

import sys

import pytest

from headrace import __version__
from headrace_pipelines.__main__ import COMMANDS, main


def test_help_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)
    assert "example:" in said and len(said.splitlines()) < 40


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"headrace {__version__}\n"


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: headrace COMMAND" in capsys.readouterr().out


def test_a_misspelt_command_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["valdate", "--dataset_name", "x"]) == 2
    assert capsys.readouterr().err.startswith("headrace: error: there is no command 'valdate' (nearest: validate)\n")


@pytest.mark.parametrize(
    ("command", "package", "extras"),
    [("run", "kfp", "pipeline,train"), ("compile", "kfp", "pipeline"), ("submit", "kfp", "pipeline"),
     ("run", "torch", "pipeline,train"), ("train", "torch", "train"), ("evaluate", "transformers", "evaluate")],
)  # fmt: skip
def test_what_is_not_installed_is_named(
    command: str, package: str, extras: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main([command, "--max_steps", "3"]) == 2
    said = capsys.readouterr().err
    assert f"`headrace {command}` needs the package {package}" in said and f"pip install 'headrace[{extras}]'" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_needs_no_extra(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("kfp", "torch", "transformers", "accelerate"):
        monkeypatch.setitem(sys.modules, package, None)
    try:
        code = main([command, "--help"])
    except SystemExit as stopped:
        code = int(str(stopped.code))
    said = capsys.readouterr().out
    assert code == 0 and "example:" in said
    assert command not in ("compile", "submit") or len(said.splitlines()) < 40
