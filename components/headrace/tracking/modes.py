"""Whether a run is tracked, and how: by Weights & Biases' own environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
_NO = ("", "0", "false", "no", "off")


def mode(environment: Mapping[str, str] | None = None) -> str:
    """Online with WANDB_API_KEY, else offline; WANDB_MODE (offline, disabled) and WANDB_DISABLED have the last word."""
    known = os.environ if environment is None else environment
    said = known.get("WANDB_MODE", "").lower()
    if said == DISABLED or known.get("WANDB_DISABLED", "").lower() not in _NO:
        return DISABLED
    if said in (OFFLINE, "dryrun") or not known.get("WANDB_API_KEY"):
        return OFFLINE
    return ONLINE
