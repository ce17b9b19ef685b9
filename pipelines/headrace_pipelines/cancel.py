"""`headrace cancel RUN`: end a run and wait until it has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from headrace.errors import EXIT_DONE, HeadraceError
from headrace_pipelines.connection import FLAGS, Connection, connect, parser
from headrace_pipelines.pods import TRAIN_LABEL, Pods, namespace_of
from headrace_pipelines.runs import ENDED, find_run
from headrace_pipelines.watch import POLL_S, Pace, check_s, look

WAIT_S = 300.0
USAGE = f"""usage: headrace cancel RUN [FLAGS]

End a run. Submitted again, it goes on from the newest checkpoint in its --store. The TrainJob of a run on several
nodes is deleted where Kubernetes can be reached as `headrace logs` does: Kubeflow kills the step that waits for it
without a word.

  RUN                  id of a run, or a name: the newest run of it
  --wait_s S           how long to wait for its end; 0 for not at all (default: {WAIT_S:g})
  --poll_s S           seconds between two looks (default: {POLL_S:g})

{FLAGS}

Exit code: 0 the run has ended, also when it had before; 1 it has not within the time.

example:
  headrace cancel gpt2training-stream --host https://kubeflow.example.org"""


def main(argv: Sequence[str]) -> int:
    """Cancel a run; 0 once it has ended, however it did."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    own = parser("cancel")
    own.add_argument("run")
    own.add_argument("--wait_s", type=float, default=WAIT_S)
    own.add_argument("--poll_s", type=float, default=POLL_S)
    args = own.parse_args(argv)
    check_s("--wait_s", args.wait_s)
    check_s("--poll_s", args.poll_s, zero=False)
    connection = connect(args)
    run = find_run(connection, args.run)
    run_id, name = run.run_id, run.display_name
    if run.state in ENDED:
        print(f"the run {name} ({run_id}) had ended before: {run.state}")
        _end_train_jobs(connection, run)
        return EXIT_DONE
    refusal: HeadraceError | None = None
    if run.state != "CANCELING":
        try:
            connection.ask(lambda: connection.client.terminate_run(run_id))
        except HeadraceError as error:
            refusal = error  # it may have ended meanwhile, or only the reply was lost: its state says
    until = time.monotonic() + args.wait_s
    while True:
        run = look(connection, run_id, Pace(poll_s=args.poll_s, patience_s=args.wait_s), _note)
        if run.state in ENDED:
            print(f"state      {run.state}")
            _end_train_jobs(connection, run)
            return EXIT_DONE
        if refusal is not None and run.state != "CANCELING":
            raise refusal
        if args.wait_s == 0:
            print(f"state      {run.state}")
            return EXIT_DONE
        if time.monotonic() + args.poll_s > until:
            raise HeadraceError(
                f"the run {name} ({run_id}) is {run.state} after {args.wait_s:g} s",
                f"it was told to end and may take longer: headrace watch {run_id}",
            )
        time.sleep(args.poll_s)


def _end_train_jobs(connection: Connection, run: Any) -> None:
    """Delete the TrainJobs of a run on several nodes, or say how to."""
    parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
    if not (parameters.get("num_nodes") or 1) > 1:
        return
    namespace = namespace_of(connection, run)
    try:
        for job in Pods(namespace, run.run_id).delete_train_jobs():
            print(f"deleted    TrainJob {job}")
    except HeadraceError as error:
        _note(
            f"its TrainJob may go on training: {error.message}\n"
            f"  kubectl -n {namespace} delete trainjob -l {TRAIN_LABEL}={run.run_id}"
        )


def _note(text: str) -> None:
    print(text, file=sys.stderr)
