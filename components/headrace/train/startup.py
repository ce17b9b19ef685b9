"""How long a start takes, and what with."""

from __future__ import annotations

import time


class Startup:
    """Seconds from the start of the step to its first optimizer step, by what they went into."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self.parts: dict[str, float] = {}

    def done(self, part: str) -> None:
        """What went on since the part before is this."""
        now = time.monotonic()
        self.parts[part], self._at = round(now - self._at, 3), now
