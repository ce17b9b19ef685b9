"""What the commit of a final model vouches for: what training wrote, and nothing that another step writes over."""

from __future__ import annotations

from pathlib import Path

from headrace.artifacts.checkpoint import read_commit, verify
from headrace.evaluate import step as evaluation
from headrace.forecast import command as planning
from headrace.options import parse_mapping
from headrace.train.checkpoints import final_files
from headrace.validate import step as validation
from tests.train.conftest import Train

PAPERS = {
    evaluation.METRICS, evaluation.LINEAGE, evaluation.CARD, evaluation.REPORT, evaluation.SCORES,
    validation.REPORT, validation.REPORT_MD, validation.REPORT_HTML, planning.PLAN, planning.PLAN_MD,
}  # fmt: skip


def test_what_other_steps_write_is_not_named(tmp_path: Path) -> None:
    for name in (*PAPERS, "model.safetensors", "headrace.json"):
        (tmp_path / name).touch()
    assert final_files(tmp_path) == ["headrace.json", "model.safetensors"]


def test_a_model_that_was_scored_in_its_folder_is_trained_further_and_scored_again(
    train: Train, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    named = {"model_name_or_path": str(out), "heldout": str(out / "heldout.parquet")}
    options = parse_mapping({**named, "gate": "off", "use_cpu": True})
    for steps in (2, 3):
        train(out, max_steps=steps, lr_scheduler_type="constant")
        for _ in range(2):
            assert evaluation.run(options, out)["step"] == steps
            verify(out, read_commit(out))
    assert not PAPERS & set(read_commit(out).files)
