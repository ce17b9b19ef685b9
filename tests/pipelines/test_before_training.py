"""What only a later step would stumble over is told before the first one starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_pipelines.__main__ import main

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
SMALL = ["--dataset_name", "data", "--model_name_or_path", "gpt2"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--gate_threshold", "perplexty <= 30"], "is about perplexty, which no gate judges"),
        (["--gate_threshold", ""], "expected METRIC OPERATOR NUMBER"),
        (["--gate_threshold", "accuracy > 0.3", "perplexity <= nan"], "expected METRIC OPERATOR NUMBER"),
        (["--gate_max_regression", "nan"], "--gate_max_regression is nan"),
        (["--gate_max_regression", "inf"], "--gate_max_regression is inf"),
        (["--gate", "blocked"], "--gate is 'blocked'"),
        (["--eval_batch_size", "0"], "--eval_batch_size is 0"),
    ],
)
def test_flags_of_evaluate_are_looked_at_by_every_command(
    flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*SMALL, *flags]
    commands = (
        ["compile", "--check"], ["compile", "-o", str(tmp_path / "p.yaml")],
        ["submit", "mine", "--host", "http://127.0.0.1:9", "--"], ["run", "--output_dir", str(tmp_path / "runs")],
    )  # fmt: skip
    for command in commands:
        assert main([*command, *asked]) == 2, command
        said = capsys.readouterr().err
        assert said.startswith("headrace: error: ") and says in said and len(said.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("publish", "/proc/nope"), ("store", "/proc/nope"), ("store", "/proc/run-{job}"), ("publish", "a_file"),
        ("store", "s3://bucket/x"),
    ],
)  # fmt: skip
def test_a_run_begins_only_where_its_results_can_be_written(
    name: str, place: str, tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    code, said = error_of("run", *SMALL, f"--{name}", place)
    assert code == 2 and place.partition("{job}")[0] in said
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


def test_the_gate_s_words_are_read_without_torch() -> None:
    program = "import sys, headrace_pipelines.parameters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
