"""`headrace submit NAME -- FLAGS`: one named run on a Kubeflow Pipelines back end, through kfp's own client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.errors import EXIT_DONE, HeadraceError, InputError
from headrace_pipelines.connection import FLAGS, parser
from headrace_pipelines.launching import Launch, launch, split
from headrace_pipelines.runs import ENDED, EXPERIMENT, after, runs
from headrace_pipelines.watch import pace, pace_flags, watch

EXAMPLE = """  headrace submit gpt2training-stream --host https://kubeflow.example.org -- \\
      --dataset_name HuggingFaceFW/fineweb --dataset_config_name CC-MAIN-2024-10 \\
      --model_name_or_path openai-community/gpt2 --max_steps 2500 --per_device_train_batch_size 8"""
USAGE = f"""usage: headrace submit NAME [FLAGS] -- FLAGS OF THE STEPS

Upload the pipeline and start it as the run NAME, with the script's own flags after `--`. While that run goes
on, the same command starts no second one: it prints the one that is there. Once it has ended, it starts anew.

  NAME                 name of the run
  --experiment NAME    experiment to file the run under, made when missing (default: {EXPERIMENT})
  --cluster FILE       what the steps get: CPUs, memory, GPUs, secrets, service account … (examples/cluster.yaml)
  --wait               watch the run until it ends (see `headrace watch --help`: --poll_s, --patience_s, exit codes)

{FLAGS}

example:
{EXAMPLE}

`headrace train --help` lists the flags of the steps."""


def main(argv: Sequence[str]) -> int:
    """Start a run; 0 once it is accepted or, with --wait, has succeeded."""
    words, rest = split(argv)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return EXIT_DONE
    own = parser("submit")
    own.add_argument("name")
    own.add_argument("--experiment")
    own.add_argument("--cluster")
    own.add_argument("--wait", action="store_true")
    pace_flags(own)
    args = own.parse_args(words)
    at = pace(args)
    made = launch(args, "submit", rest, EXAMPLE)
    run = start(made, args.name)
    print(f"run        {args.name}\nid         {run.run_id}\npage       {made.connection.page(run.run_id)}")
    return watch(made.connection, str(run.run_id), at) if args.wait else EXIT_DONE


def start(made: Launch, name: str) -> Any:
    """A run of that name: the one that goes on with the same version and arguments, else a new one.

    InputError while a run of that name goes on with others. When the reply to starting it is lost, the run that was
    started is found among those that were not there before, so that no clocks are compared.
    """
    connection = made.connection
    there = list(runs(connection, experiment_id=made.experiment_id, name=name))
    active = [run for run in there if run.state not in ENDED]
    same = next((run for run in active if made.same(run)), None)
    if same is not None:
        since = f" since {same.created_at:%Y-%m-%d %H:%M} UTC" if same.created_at else ""
        print(f"note       the run goes on{since}; nothing was started")
        return same
    if active:
        raise InputError(
            f"the run {name} ({active[0].run_id}) goes on with other flags or another version of the pipeline",
            f"give this run another name, or end that one: headrace cancel {active[0].run_id}",
        )
    before = {run.run_id for run in there}

    def started() -> Any:
        now = runs(connection, experiment_id=made.experiment_id, name=name)
        return next((run for run in now if run.run_id not in before and made.same(run)), None)

    try:
        return connection.ask(
            lambda: connection.client.run_pipeline(
                made.experiment_id, name, params=dict(made.arguments), pipeline_id=made.version.pipeline_id,
                version_id=made.version.version_id, service_account=made.service_account,
            )
        )  # fmt: skip
    except InputError:
        raise
    except HeadraceError as error:
        found = after(error, started)
        if found is None:
            raise HeadraceError(
                error.message, "no run has appeared; run the same command again, it looks for one first"
            ) from None
        return found
