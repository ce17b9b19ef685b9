"""`headrace submit NAME -- FLAGS`: one named run on a Kubeflow Pipelines back end, through kfp's own client."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.errors import EXIT_DONE, EXIT_FAILURE, HeadraceError, InputError
from headrace_pipelines.compiling import compile_package
from headrace_pipelines.parameters import flags, parameters

HOSTS = ("HEADRACE_KFP_HOST", "KF_PIPELINES_ENDPOINT")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
POLL_S = 5.0
USAGE = """usage: headrace submit NAME [--host URL] [--namespace NAME] [--experiment NAME] [--wait] -- FLAGS

Compile the pipeline and start it as the run NAME, with the script's own flags after `--`.

  NAME               name of the run
  --host URL         Kubeflow Pipelines API (default: HEADRACE_KFP_HOST, then kfp's KF_PIPELINES_ENDPOINT)
  --namespace NAME   Kubernetes namespace of a multi-user back end
  --experiment NAME  experiment to file the run under (default: headrace)
  --wait             stay until the run has ended; exit 1 unless it succeeded

example:
  headrace submit gpt2training-stream --host https://kubeflow.example.org -- \\
      --dataset_name HuggingFaceFW/fineweb --dataset_config_name CC-MAIN-2024-10 \\
      --model_name_or_path openai-community/gpt2 --max_steps 2500 --per_device_train_batch_size 8

`headrace train --help` lists the flags."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InputError(message, "`headrace submit --help` shows the flags; those of the steps go behind `--`")


def main(argv: Sequence[str]) -> int:
    """Start a run; 0 once it is accepted or, with --wait, has succeeded."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    own, rest = words[:cut], words[cut + 1 :]
    if {"-h", "--help"} & set(own):
        print(USAGE)
        return EXIT_DONE
    args = _parse(own)
    host = args.host or next((os.environ[name] for name in HOSTS if os.environ.get(name)), None)
    if host is None:
        raise InputError("no Kubeflow Pipelines host is known", f"give --host URL, or set {HOSTS[0]}")
    values = flags("submit NAME --", rest, "Flags of the steps.", USAGE.rpartition("example:\n")[2])
    for name in ("dataset_name", "model_name_or_path"):
        if not values.get(name):
            raise InputError(f"--{name} is missing", "give it behind `--`, or in a --config file there")
    if values.get("output_dir"):
        print(
            f"note: --output_dir {values['output_dir']} would lie in each step's own pod; "
            "checkpoints go to --store, or to the run's artifacts",
            file=sys.stderr,
        )
    return _submit(args, host, values)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="headrace submit", add_help=False, allow_abbrev=False)
    parser.add_argument("name")
    for flag in ("--host", "--namespace"):
        parser.add_argument(flag)
    parser.add_argument("--experiment", default="headrace")
    parser.add_argument("--wait", action="store_true")
    return parser.parse_args(words)


def _submit(args: argparse.Namespace, host: str, values: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        package = Path(scratch) / "pipeline.yaml"
        compile_package(package, {})
        client = _asked(host, lambda: _client(host, args.namespace))
        run = _asked(
            host,
            lambda: client.create_run_from_pipeline_package(
                str(package), arguments=parameters(values), run_name=args.name,
                experiment_name=args.experiment, namespace=args.namespace, enable_caching=False,
            ),
        )  # fmt: skip
    print(f"run        {args.name}\nid         {run.run_id}\npage       {host.rstrip('/')}/#/runs/details/{run.run_id}")
    if not args.wait:
        return EXIT_DONE
    state = _wait(client, host, run.run_id)
    print(f"state      {state}")
    return EXIT_DONE if state == "SUCCEEDED" else EXIT_FAILURE


def _client(host: str, namespace: str | None) -> Any:
    from kfp import client

    return client.Client(host=host, namespace=namespace or "kubeflow")


def _wait(client: Any, host: str, run_id: str) -> str:
    # kfp's own wait never ends when a run is cancelled.
    shown = ""
    while True:
        state = str(_asked(host, lambda: client.get_run(run_id)).state)
        if state != shown:
            print(f"{time.strftime('%H:%M:%S')} {state}", file=sys.stderr)
            shown = state
        if state in ENDED:
            return state
        time.sleep(POLL_S)


def _asked(host: str, ask: Any) -> Any:
    """The back end's answer; one line for whatever keeps it from answering."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return ask()
    except ApiException as error:
        text = " ".join(str(error.body or error.reason or error).split())[:300]
        if error.status in (400, 401, 403, 404):
            raise InputError(
                f"{host} refused ({error.status}): {text}", "check --host, --namespace and access"
            ) from error
        raise HeadraceError(f"{host} failed ({error.status}): {text}", "try again") from error
    except (HTTPError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise HeadraceError(f"cannot reach {host}: {text}", "check --host and the network, then try again") from error
