"""Several processes on one machine: `headrace train` starts them itself, with torchrun's own agent.

Where a launcher (torchrun, accelerate) started this process, it is one of its ranks and starts nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.artifacts.outcome import OUTCOME, read_outcome
from headrace.errors import EXIT_DONE, EXIT_FAILURE, InputError
from headrace.options import Options
from headrace.train.ended import ended
from headrace.train.preemption import SIGNALS

log = logging.getLogger(__name__)

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where a driver of GPUs shows itself: without one, torch need not be asked how many there are."""
OTHERS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def processes_to_start(options: Options, environ: Mapping[str, str] = os.environ) -> int:
    """How many processes this one is to start for the training; 1: it trains itself.

    InputError when a launcher started another number than the flags say, or several machines were asked for.
    """
    nodes, wanted = options.train.num_nodes, options.train.nproc_per_node
    if "WORLD_SIZE" in environ:
        world = int(environ["WORLD_SIZE"])
        here = int(environ.get("LOCAL_WORLD_SIZE", world))
        if wanted not in (None, here):
            raise InputError(
                f"--nproc_per_node is {wanted}, but a launcher started {here} process(es) on this machine",
                f"leave out the flag, or start it with torchrun --nproc_per_node {wanted}",
            )
        if "num_nodes" in options.given and nodes * here != world:
            raise InputError(
                f"--num_nodes is {nodes}, but a launcher started {world} processes, {here} of them on this machine",
                f"leave out the flag, or start it with torchrun --nnodes {nodes} on each machine",
            )
        return 1
    if nodes > 1:
        raise InputError(
            f"--num_nodes is {nodes}, and this is one machine",
            "train in a pipeline, whose train step makes a Kubeflow TrainJob (headrace submit), or start the command "
            f"on each machine with torchrun --nnodes {nodes}",
        )
    return wanted or _gpus(options)


def _gpus(options: Options) -> int:
    if options.training.get("use_cpu") or not any(Path(path).exists() for path in DRIVERS):
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def launch(argv: Sequence[str], processes: int, output_dir: Path, grace_s: float) -> dict[str, Any]:
    """Run `headrace train` with these arguments as that many ranks; rank 0's facts, or what it ended with.

    SIGTERM and SIGUSR1 reach every rank, which then have their grace period.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # It would tell again, over a screen, what rank 0 told in a line.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    (output_dir / OUTCOME).unlink(missing_ok=True)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, max_restarts=0, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="127.0.0.1",
        signals_to_handle=",".join(number.name for number in (*SIGNALS, *OTHERS)), shutdown_timeout=int(grace_s) + 5,
    )  # fmt: skip
    log.info("starting %d processes", processes)
    killed = None
    try:
        elastic_launch(config, sys.executable)("-m", "headrace.train", *argv)
    except ChildFailedError as error:
        killed = min((failure.exitcode for failure in error.failures.values()), default=None)
    except SignalException as asked:
        if asked.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
    if killed is not None and killed < 0 and -killed not in SIGNALS:
        raise ended(killed, output_dir)
    try:
        outcome = read_outcome(output_dir)
    except InputError:
        raise ended(EXIT_FAILURE, output_dir) from None
    if outcome["code"] != EXIT_DONE:
        told = ended(outcome["code"], output_dir)
        told.told = True
        raise told
    return {name: value for name, value in outcome.items() if name not in ("code", "error", "remedy")}
