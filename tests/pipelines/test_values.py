"""Values that no package and no request can hold: told in a line, with the flag, by every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace_pipelines.__main__ import main
from headrace_pipelines.parameters import parameters

pytestmark = pytest.mark.usefixtures("alone")
SMALL = ["--dataset_name", "data", "--model_name_or_path", "gpt2"]
FILES = {
    "date.yaml": "dataset_mixture: [{name: a, weight: 1, revision: 2024-10-01}, {name: b, weight: 1}]",
    "bytes.yaml": "validate_thresholds: {warn_wasted: !!binary aGVsbG8=}",
    "nan.yaml": "validate_thresholds: {warn_wasted: .nan}",
    "key.yaml": "validate_thresholds: {2024-10-01: 1}",
    "numbered.yaml": "validate_thresholds: {1: 1}",
    "large.yaml": f"validate_thresholds: {{warn_wasted: 1{'0' * 400}}}",
    "inf.yaml": "max_steps: .inf",
    "rate.yaml": "learning_rate: .nan",
}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--max_steps", "inf"], "--max_steps"),
        (["--max_steps", "1e400"], "--max_steps"),
        (["--config", "inf.yaml"], "--max_steps"),
        (["--learning_rate", "nan"], "--learning_rate"),
        (["--learning_rate=-inf"], "--learning_rate"),
        (["--config", "rate.yaml"], "--learning_rate"),
        (["--lr_scheduler_kwargs", '{"a": NaN}'], "--lr_scheduler_kwargs"),
        (["--sample_prompt", "\udcff"], "--sample_prompt"),
        (["--dataset_name", "\udcff"], "--dataset_name"),
        (["--config", "date.yaml"], "--dataset_mixture"),
        (["--config", "bytes.yaml"], "--validate_thresholds"),
        (["--config", "nan.yaml"], "--validate_thresholds"),
        (["--config", "key.yaml"], "--validate_thresholds"),
        (["--config", "numbered.yaml"], "--validate_thresholds"),
        (["--config", "large.yaml"], "--validate_thresholds"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named(
    flags: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    for command in (["compile", "-o", "p.yaml"], ["compile", "--check"], ["submit", "mine", "--"], ["run"]):
        assert main([*command, *SMALL, *flags]) == 2, command
        said = capsys.readouterr().err
        assert said.startswith(f"headrace: error: {says} ") and len(said.splitlines()) <= 2, said
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_numbers_up_to_where_floats_are_exact_and_any_text_are_taken() -> None:
    values = {
        "seed": 3,
        "learning_rate": 1e-4,
        "sample_prompt": ["Ünïcødé 🙂", ""],
        "x": {"a": [1, None, True, 1 << 53]},
    }
    assert parameters(values)["arguments"] == values
