"""`headrace models`, on what evaluations have published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.checkpoint import CheckpointRef, commit
from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.errors import DamagedCheckpoint, HeadraceError, InputError
from headrace.evaluate.models import main
from headrace.evaluate.shelf import PROMOTED, Promotion, move, read_pointer
from headrace.evaluate.step import run
from tests.evaluate.conftest import PLAN, options_for

Versions = tuple[str, str, str]


@pytest.fixture(scope="module")
def shelf(trained: Path, heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Versions]:
    """Three versions of equal weights, at steps 1, 2 and 3, promoted one after the other."""
    folder = tmp_path_factory.mktemp("shelf")
    versions = []
    for step in (1, 2, 3):
        model = Path(shutil.copytree(trained, folder / f"model-{step}"))
        record = commit(model, step=step, plan_hash=PLAN)
        CheckpointRef(uri=".", commit_hash=record.hash, step=step).write(model)
        facts = run(options_for(model, heldout=str(heldout), publish=str(folder / "models")), folder / f"out-{step}")
        versions.append(str(facts["version"]))
    return folder / "models", (versions[0], versions[1], versions[2])


@pytest.fixture
def place(shelf: tuple[Path, Versions], tmp_path: Path) -> tuple[str, Versions]:
    """A copy that a test may change."""
    return str(shutil.copytree(shelf[0], tmp_path / "models")), shelf[1]


def objects(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    assert main([*argv, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_list_names_all_and_the_current_one(place: tuple[str, Versions], capsys: pytest.CaptureFixture[str]) -> None:
    where, versions = place
    shutil.copytree(Path(where, versions[0]), Path(where, "staged"))
    rows = objects(capsys, "list", where)
    assert [row["version"] for row in rows] == [*versions, "staged"]
    assert [row["current"] for row in rows] == [False, False, True, False]
    loss = read_json(Path(where, versions[0], "metrics.json"))["eval_loss"]
    assert [row["eval_loss"] for row in rows] == [loss] * 3 + [None]
    assert [row["gate"] for row in rows] == ["passed"] * 3 + [None]
    assert main(["list", where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("*") for line in lines[1:]] == [False, False, True, False]
    assert f"{loss:.4f}" in lines[1] and "never" in lines[4]


def test_show_tells_scores_gate_and_origin(place: tuple[str, Versions], capsys: pytest.CaptureFixture[str]) -> None:
    where, versions = place
    (facts,) = objects(capsys, "show", where)
    assert (facts["version"], facts["current"], facts["step"]) == (versions[2], True, 3)
    assert facts["metrics"]["gate"]["comparison"]["version"] == versions[1]
    assert facts["lineage"]["plan_hash"] == PLAN and len(facts["promotions"]) == 1
    (first,) = objects(capsys, "show", where, versions[0])
    assert (first["version"], first["current"]) == (versions[0], False)
    assert main(["show", where]) == 0
    said = capsys.readouterr().out
    assert f"{versions[2]} (current)" in said and "held-out loss" in said and "promoted 2" in said
    assert f"beside {versions[1]}" in said and PLAN in said


def test_rollback_goes_back_and_back_until_there_is_nothing(
    place: tuple[str, Versions], capsys: pytest.CaptureFixture[str]
) -> None:
    where, (first, second, third) = place
    assert objects(capsys, "rollback", where)[0]["version"] == second
    assert main(["rollback", where]) == 0
    assert f"{first} is current in {where}; before it was {second}" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"nothing was current in .* before {first}"):
        main(["rollback", where])
    assert objects(capsys, "rollback", where, third)[0]["before"] == first
    pointer = read_pointer(open_store(where))
    assert [p.version for p in pointer.promotions] == [first, second, third, second, first, third]
    assert [p.by for p in pointer.promotions] == ["promoted"] * 3 + ["rolled back"] * 3
    assert read_json(Path(where, "current.json"))["version"] == third


def test_a_model_after_a_rollback_is_held_against_what_was_rolled_back_to(
    place: tuple[str, Versions], model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, versions = place
    main(["rollback", where, versions[0]])
    run(options_for(model, heldout=str(heldout), publish=where), tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json")["gate"]["comparison"]["version"] == versions[0]


def test_what_cannot_be_done_is_refused_and_changes_nothing(place: tuple[str, Versions], tmp_path: Path) -> None:
    where, (first, second, third) = place
    before = Path(where, "current.json").read_bytes()
    with pytest.raises(InputError, match="there is no version 'step-9'"):
        main(["rollback", where, "step-9"])
    with pytest.raises(InputError, match="is current already"):
        main(["rollback", where, third])
    Path(where, second, "model.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors is missing"):
        main(["rollback", where, second])
    with pytest.raises(InputError, match="no model is current"):
        main(["show", str(tmp_path / "none")])
    with pytest.raises(InputError, match="plain relative path"):
        main(["show", where, "../models"])
    for argv in (["list", where, first], ["remove", where], ["list"]):
        with pytest.raises(InputError):
            main(argv)
    assert Path(where, "current.json").read_bytes() == before


def test_an_empty_place_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path)]) == 0
    assert "no model is published" in capsys.readouterr().out
    assert main([]) == 2 and main(["--help"]) == 0


def test_a_rollback_that_did_not_see_a_promotion_is_refused(
    place: tuple[str, Versions], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, (first, _, third) = place
    store = open_store(where)
    stale = read_pointer(store)
    move(store, stale, Promotion(version="new", commit_hash="n", step=4, by=PROMOTED, at="t", id="1"))
    seen = iter([stale, read_pointer(store)])
    monkeypatch.setattr("headrace.evaluate.models.read_pointer", lambda _: next(seen))
    with pytest.raises(HeadraceError, match="new became current") as found:
        main(["rollback", where, first])
    assert found.value.exit_code == 1 and third in str(stale.current)
