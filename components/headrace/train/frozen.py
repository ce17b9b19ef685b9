"""What stays of a run from its first start on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.tracking.journal import tracking_id
from headrace.train.data import Horizon


@dataclass(frozen=True)
class Frozen:
    """What every data state says of its run, from the first start on."""

    run_id: str
    plan: Mapping[str, Any]
    plan_hash: str
    horizon: Horizon
    samples: list[dict[str, str]]
    """Prompts and what the untrained model made of them."""
    started_from: str | None
    """Commit hash of the checkpoint that --resume_from_checkpoint named when the run began to write here."""
    parent: Mapping[str, Any] | None
    """The model that the run began from; None in states of an earlier Headrace."""

    @property
    def tracking_id(self) -> str:
        """What the run is called at a tracker."""
        return tracking_id(self.run_id, self.plan_hash, self.started_from)
