"""Little shared memory, as containers have it, told from plenty."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from headrace.train.shared_memory import too_little_shared_memory


@pytest.mark.parametrize(("mib", "little"), [(1, True), (64, True), (65, False), (8192, False)])
def test_its_size_decides(mib: int, little: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=mib * 256, f_frsize=4096))
    said = too_little_shared_memory()
    assert bool(said) == little and (f" {mib} MiB" in said) == little
