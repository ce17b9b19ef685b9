"""Validation runs where neither torch nor transformers is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.validate.conftest import CORPUS, MODEL

HEAVY = ("torch", "transformers", "accelerate", "kfp")


def heavy_after(program: str) -> list[str]:
    """Heavy packages a fresh interpreter has loaded after the program, which may print what it likes."""
    asked = f"{program}\nimport json, sys\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_running_it_loads_no_training_library(tmp_path: Path) -> None:
    flags = [
        "--dataset_name",
        CORPUS,
        "--model_name_or_path",
        MODEL,
        "--output_dir",
        str(tmp_path),
        "--heldout_fraction",
        "0.1",
    ]
    program = (
        "import headrace.validate.step\nfrom headrace.validate.__main__ import main\n"
        f"assert main({flags!r}) == 0\n"
    )  # fmt: skip
    assert heavy_after(program) == []
    assert (tmp_path / "report.html").is_file()


def test_help_is_quick_and_loads_none() -> None:
    code = (
        "import sys\nfrom headrace.validate.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "assert not {'datasets', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
    )
    began = time.monotonic()
    assert heavy_after(code) == []
    assert time.monotonic() - began < 20  # half a second on an idle machine


def test_help_shows_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace.validate", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "headrace validate --dataset_name" in done.stdout and "--world_size" in done.stdout
