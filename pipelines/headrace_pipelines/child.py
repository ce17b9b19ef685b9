"""The process in which kfp runs the DAG for `headrace run`: `python -m headrace_pipelines.child RUN_FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from kfp import local

from headrace_pipelines.local import read_parameters
from headrace_pipelines.pipeline import pipeline


def main(folder: Path) -> None:
    """Run the DAG with kfp's subprocess runner, its own files below `kfp`."""
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder.absolute() / "kfp"))
    pipeline(**read_parameters(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
