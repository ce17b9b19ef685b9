"""`headrace logs RUN`: what the steps print, from their pods: Kubeflow's API itself has no logs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from headrace.errors import EXIT_DONE, HeadraceError
from headrace_pipelines.connection import FLAGS, Connection, connect, parser
from headrace_pipelines.pods import Pod, Pods, namespace_of
from headrace_pipelines.runs import ENDED, find_run
from headrace_pipelines.watch import INTERRUPTED, PATIENCE_S, POLL_S, Pace, look, pace, pace_flags, patiently

USAGE = f"""usage: headrace logs RUN [--step NAME] [--follow] [FLAGS]

Print what the steps of a run have printed, each line behind the name of its step.

  RUN                  id of a run, or a name: the newest run of it
  --step NAME          only this step, without its name in front
  --follow             go on until the run has ended; Ctrl-C leaves it going
  --poll_s S           seconds between two looks for new steps (default: {POLL_S:g})
  --patience_s S       how long servers that are away are waited for (default: {PATIENCE_S:g})

{FLAGS}

Kubeflow Pipelines' API has no logs. They are read from the pods through the Kubernetes API: in a pod with its
service account, elsewhere as kubectl does (KUBECONFIG, the current context), with the right to list pods and to
get pods/log in the run's namespace. Logs of pods that are gone are on the run's page, if the back end keeps them.

example:
  headrace logs gpt2training-stream --step train --follow --host https://kubeflow.example.org"""


def main(argv: Sequence[str]) -> int:
    """Print the logs."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    own = parser("logs")
    own.add_argument("run")
    own.add_argument("--step")
    own.add_argument("--follow", action="store_true")
    pace_flags(own)
    args = own.parse_args(argv)
    at = pace(args)
    connection = connect(args)
    run = find_run(connection, args.run)
    pods = Pods(namespace_of(connection, run), str(run.run_id))
    try:
        printed = _follow(connection, run, pods, args, at) if args.follow else _print(pods, args)
    except KeyboardInterrupt:
        print("stopped reading; the run goes on", file=sys.stderr)
        return INTERRUPTED
    if not printed:
        raise HeadraceError(
            f"there is no pod of {'a step' if args.step is None else f'the step {args.step}'} of the run "
            f"{run.display_name} in the namespace {pods.namespace}",
            f"not started, skipped, or cleared away; what the back end keeps is at {connection.page(run.run_id)}",
        )
    return EXIT_DONE


def _print(pods: Pods, args: argparse.Namespace) -> bool:
    """Print the logs as they are; False when there are none."""
    found = [pod for pod in pods.of(args.step) if pod.started]
    for pod in found:
        with contextlib.closing(pods.lines(pod, follow=False)) as lines:
            _say(lines, pod, args)
    return bool(found)


def _follow(connection: Connection, run: Any, pods: Pods, args: argparse.Namespace, at: Pace) -> bool:
    """Print each pod's log to its end, one after the other, until the run has ended; False when there was none."""
    done: set[str] = set()
    while True:
        ended = run.state in ENDED  # looked at before the pods, so that none is missed
        for pod in patiently(lambda: pods.of(args.step), str(run.run_id), at, _note):
            if pod.name not in done and pod.started:
                done.add(pod.name)
                with contextlib.closing(pods.lines(pod, follow=True, patience_s=at.patience_s)) as lines:
                    _say(lines, pod, args)
        if ended:
            return bool(done)
        time.sleep(at.poll_s)
        run = look(connection, str(run.run_id), at, _note)


def _say(lines: Iterator[str], pod: Pod, args: argparse.Namespace) -> None:
    for line in lines:
        print(line if args.step else f"{pod.step} | {line}", flush=args.follow)


def _note(text: str) -> None:
    print(text, file=sys.stderr)
