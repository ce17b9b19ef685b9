"""`headrace run`: the pipeline on this machine, through kfp's own subprocess or Docker runner, with one folder a run.

kfp runs the DAG in a child process whose output goes to `log.txt`; this process draws the steps' progress from their
`progress.json`, and takes the exit code from their `outcome.json`, which kfp.local does not pass on.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace.artifacts.files import write_json
from headrace.artifacts.outcome import OUTCOME, read_outcome
from headrace.artifacts.storage import of_job, open_store
from headrace.errors import EXIT_DONE, EXIT_FAILURE, EXIT_PREEMPTED
from headrace_pipelines import containers
from headrace_pipelines.parameters import OwnFlags, absolute, flags, parameters, require
from headrace_pipelines.showing import Showing, summary

STEPS = ("validate", "train", "evaluate")
LOG, REPORT, PARAMETERS = "log.txt", "report.html", "parameters.json"
SUBPROCESS, DOCKER = RUNNERS = ("subprocess", "docker")
DEFAULT_ROOT = "runs"
LOOK_EVERY_S = 0.3
TERM_GRACE_S = 30.0
LOG_LINES = 40
SIGNALLED = 128
"""Added to a signal's number, as shells do, it is the exit code of what the signal ended."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

DESCRIPTION = """Run the whole pipeline on this machine: validate, train, evaluate, publish.

--runner subprocess (the default) runs the steps in this Python environment, --runner docker in the images that
docker/build made: same steps, same tokens."""
EXAMPLE = """  headrace run --config examples/quickstart.yaml --max_steps 50
  headrace run --runner docker --config examples/quickstart.yaml"""


def main(argv: Sequence[str]) -> int:
    """Run the pipeline; the exit code of the step that failed, or 0. The last line printed is the report's path."""
    parser = OwnFlags("run")
    parser.add_argument("--runner", choices=RUNNERS, default=SUBPROCESS)
    own, rest = parser.parse_known_args(argv)
    values = flags("run", rest, DESCRIPTION, EXAMPLE)
    require(values)
    parameters(values)  # what cannot run leaves no folder behind
    check_places(values)
    if own.runner == DOCKER:
        containers.check()
    folder = new_folder(Path(str(values.get("output_dir") or DEFAULT_ROOT)))
    publish = values.get("publish") or str(folder / "published")
    chosen = parameters({**values, "publish": absolute(str(publish))}, str(folder.absolute()))
    write_json(folder / PARAMETERS, chosen)
    code = supervise(folder, own.runner)
    if code >= SIGNALLED:
        return code
    if code == EXIT_DONE:
        print(summary(folder))
    else:
        explain(folder, code, debug=bool(values.get("debug")))
    report = collect_report(folder)
    if report is not None:
        print(report)
    return code


def check_places(values: Mapping[str, Any]) -> None:
    """InputError for a store or a place to publish to that cannot be written: training is for nothing without."""
    for name in ("store", "publish"):
        if place := str(values.get(name) or ""):
            open_store(of_job(place, "run")).check_writable()


def new_folder(root: Path) -> Path:
    """A folder for one run; InputError when it cannot be made."""
    name = time.strftime("run-%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
    open_store(str(root)).check_writable()
    (root / name).mkdir(parents=True)
    return root / name


def supervise(folder: Path, runner: str = SUBPROCESS) -> int:
    """Run the DAG of a folder in a child and show how it gets on; its exit code.

    The child leads a group of its own and ends it when this process is gone: its standard input then ends.
    """
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "headrace_pipelines.child", str(folder), runner],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            # A folder called `datasets` or a file `evaluate.py` where the user stands must not be imported.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
    previous = {s: signal.signal(s, _stopped) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        with Showing(folder, STEPS) as showing:
            while child.poll() is None:
                showing.look()
                time.sleep(LOOK_EVERY_S)
            showing.look()
    except _Stopped as stopped:
        for number in previous:  # asked twice: at once
            signal.signal(number, lambda *_: _signal_group(child.pid, signal.SIGKILL))
        print(f"headrace: {stopped.signal.name}: ending the steps; files stay in {folder}", file=sys.stderr)
        end(child)
        preempted = any(outcome["code"] == EXIT_PREEMPTED for outcome in outcomes(folder).values())
        return EXIT_PREEMPTED if preempted else SIGNALLED + stopped.signal
    finally:
        end(child)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return exit_code(folder, child.returncode)


class _Stopped(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _stopped(number: int, _frame: object) -> None:
    raise _Stopped(number)


def end(child: subprocess.Popen[bytes]) -> None:
    """Stop a child and everything it started: SIGTERM to its group, SIGKILL to what is left after the grace."""
    for number, grace in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, 5.0)):
        if not _any_alive(child.pid):
            break
        _signal_group(child.pid, number)
        until = time.monotonic() + grace
        while _any_alive(child.pid) and time.monotonic() < until:
            time.sleep(0.05)
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _any_alive(group: int) -> bool:
    """Whether a process of the group still runs; zombies, which wait for whoever should reap them, do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has just ended
        if its_group == str(group) and state not in "ZX":
            return True
    return False


def exit_code(folder: Path, child: int) -> int:
    """The code of the first step that did not end well; kfp's child only knows that something failed."""
    for outcome in outcomes(folder).values():
        if outcome["code"] != EXIT_DONE:
            return int(outcome["code"])
    return EXIT_DONE if child == 0 else EXIT_FAILURE


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """What each step that has ended said of it, in order."""
    return {step: read_outcome(folder / step) for step in STEPS if (folder / step / OUTCOME).is_file()}


def explain(folder: Path, code: int, *, debug: bool) -> None:
    """Say on stderr which step failed and why; the log's last lines for a bug, or with --debug."""
    said: Mapping[str, Any] = {}
    for step, outcome in outcomes(folder).items():
        if outcome["code"] != EXIT_DONE:
            said = {"step": step, **outcome}
            break
    if not said or code == EXIT_FAILURE or debug:
        lines = COLOURS.sub("", (folder / LOG).read_text("utf-8", "replace")).splitlines()
        print("\n".join(lines[-LOG_LINES:]), file=sys.stderr)
    place = f"{said['step']}: {said['error']}" if said else "the pipeline failed outside of its steps"
    print(f"headrace: error: {place}", file=sys.stderr)
    if said.get("remedy"):
        print(f"  {said['remedy']}", file=sys.stderr)
    print(f"  everything that was printed: {folder / LOG}", file=sys.stderr)


def collect_report(folder: Path) -> Path | None:
    """The run's report at the top of its folder: evaluation's, or what validation said when it went no further."""
    for step in ("evaluate", "validate"):
        source = folder / step / REPORT
        if source.is_file():
            shutil.copyfile(source, folder / REPORT)
            return folder / REPORT
    return None


def read_parameters(folder: Path) -> dict[str, Any]:
    """The parameters that `main` left for the child."""
    found: dict[str, Any] = json.loads((folder / PARAMETERS).read_text("utf-8"))
    return found
