"""The journal: read as it was written, at any time; steps merged; names and modes."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tracking.journal import JOURNAL, Journal, Merged, RunFacts, follow, read_facts, tracking_id, training_row
from headrace.tracking.modes import mode

FACTS = RunFacts(id="i", project="p", name="n", job_type="train", config={"x": [1, {"y": None}]})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FACTS)
    journal.row(1, {"a": 1.5, "bad": float("nan")})
    journal.scores("v", {"b": 2})
    journal.table("t", ["c"], [[3], [None]])
    journal.end()
    journal.close()
    assert read_facts(tmp_path) == FACTS
    bad = {"bad": None, "bad_note": "not a number that JSON can carry: nan"}
    assert list(follow(tmp_path / JOURNAL, lambda: False)) == [
        ("row", {"step": 1, "values": {"a": 1.5, **bad}}),
        ("scores", {"version": "v", "values": {"b": 2}}),
        ("table", {"name": "t", "columns": ["c"], "rows": [[3], [None]]}),
        ("end", 0),
    ]


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_lines_are_given_out_whole(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The writer may be anywhere in a line when the reader looks, and may die there."""
    lines = [json.dumps({"row": {"step": s, "values": {"é": s}}}, ensure_ascii=False).encode() + b"\n" for s in (1, 2)]
    data = b"".join(lines) + b'{"row": {"st'
    path = tmp_path_factory.mktemp("journal") / JOURNAL
    ends = sorted({min(c, len(data)) for c in cuts} | {len(data)})
    path.write_bytes(b"")

    def going() -> bool:
        path.write_bytes(data[: ends.pop(0)])
        return bool(ends)

    found = [entry for entry in follow(path, going) if entry is not None]
    assert found == [("row", {"step": s, "values": {"é": s}}) for s in (1, 2)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=20))
def test_values_of_a_step_are_one_row(logged: list[tuple[int, int]]) -> None:
    logged.sort(key=lambda one: one[0])
    merged, rows = Merged(), []
    for at, (step, key) in enumerate(logged):
        rows.append(merged.add(step, {str(key): at}))
    found = [row for row in [*rows, merged.flush()] if row is not None]
    expected: list[tuple[int, dict[str, Any]]] = []
    for step, group in groupby(enumerate(logged), key=lambda one: one[1][0]):
        expected.append((step, {str(key): at for at, (_, key) in group}))
    assert found == expected and merged.flush() is None


def test_a_run_keeps_its_name_and_a_branch_gets_another() -> None:
    name = tracking_id("20261125-a/b?:c", "p" * 64, None)
    assert name == tracking_id("20261125-a/b?:c", "p" * 64, None) and name.startswith("20261125-a-b-c-")
    others = {tracking_id("20261125-a/b?:c", "p" * 64, "commit"), tracking_id("20261125-a/b?:c", "q" * 64, None)}
    assert len(others | {name}) == 3 and len(tracking_id("x" * 500, "", None)) < 128


def test_a_row_of_training() -> None:
    entry = {"step": 3, "loss": 1.0, "eval_loss": None, "tokens": 5}
    assert training_row(entry) == {"train/loss": 1.0, "train/tokens": 5}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "offline"), ({"WANDB_API_KEY": "k"}, "online"), ({"WANDB_API_KEY": ""}, "offline"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"), ({"WANDB_MODE": "online"}, "offline"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_API_KEY": "k", "WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_API_KEY": "k", "WANDB_DISABLED": "false"}, "online"),
    ],
)  # fmt: skip
def test_the_environment_decides(environment: dict[str, str], expected: str) -> None:
    assert mode(environment) == expected
