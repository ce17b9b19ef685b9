"""How far a step has got: a bar on a terminal, `progress.json` for everyone else."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from headrace.artifacts.outcome import PROGRESS, Progress


class Bars:
    """Called with (phase, done, total, unit); draws one bar a phase on stderr where that is a terminal."""

    def __init__(self, output_dir: Path) -> None:
        self._file = Progress(output_dir / PROGRESS)
        self._phase = ""
        self._bar: Any = None

    def __enter__(self) -> Bars:
        return self

    def __call__(self, phase: str, done: int, total: int | None, unit: str) -> None:
        from tqdm import tqdm

        if phase != self._phase:
            self._close()
            self._phase = phase
            self._bar = tqdm(desc=phase, total=total, unit=f" {unit}", leave=False, disable=None)
        self._bar.update(done - self._bar.n)
        self._file.update(phase, done, total, unit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
