"""The training's part of the tracked run: what is logged goes to the tracker's journal as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState

from headrace.options import Options
from headrace.tracking.journal import RunFacts, training_row
from headrace.tracking.modes import ONLINE, mode
from headrace.tracking.tracker import Tracker
from headrace.train.frozen import Frozen
from headrace.train.ranks import Ranks
from headrace.train.record import history

WAIT_S = 30.0


class Tracked(TrainerCallback):
    """Has rank 0's log recorded where there is a key to send it with.

    Without one nobody could watch: the evaluation records the whole run, from the log that the model brings along.
    """

    def __init__(self, output_dir: Path, options: Options, frozen: Frozen, ranks: Ranks) -> None:
        self._tracker: Tracker | None = None
        if ranks.rank == 0 and mode() == ONLINE:
            given = {name: value for name, value in options.training.items() if not name.endswith("_token")}
            facts = RunFacts(
                id=frozen.tracking_id, name=frozen.run_id, project=options.tracking.wandb_project, job_type="train",
                config={
                    "run_id": frozen.run_id, "plan_hash": frozen.plan_hash, "plan": _numbers(frozen.plan),
                    "world_size": ranks.world_size, "arguments": given,
                },
            )  # fmt: skip
            self._tracker = Tracker(output_dir, facts, ONLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Left without an end, the run goes on in another start: nobody waits."""
        if self._tracker is not None:
            self._tracker.leave()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for entry in history(state.log_history) if self._tracker else ():
            self._row(int(entry["step"]), entry)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs and "train_runtime" not in logs:
            self._row(state.global_step, logs)

    def _row(self, step: int, entry: Mapping[str, Any]) -> None:
        if self._tracker is not None:
            self._tracker.row(step, training_row(entry))

    def finish(self) -> None:
        """The training is whole: wait, for so long, until the tracker has it."""
        if self._tracker is not None:
            self._tracker.finish(WAIT_S)


def _numbers(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What of a plan may be told to anyone: addresses of sources may have secrets in them."""
    return {name: value for name, value in plan.items() if isinstance(value, int | float)}
