"""`headrace submit NAME -- FLAGS`: one named run on a Kubeflow Pipelines back end, through kfp's own client."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.errors import EXIT_DONE, EXIT_FAILURE, HeadraceError, InputError
from headrace_pipelines.compiling import compile_package
from headrace_pipelines.parameters import OwnFlags, flags, parameters, require

HOSTS = ("HEADRACE_KFP_HOST", "KF_PIPELINES_ENDPOINT")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
POLL_S = 5.0
CONNECT_S = 10.0
MISSED_POLLS = 12
"""Polls in a row that may fail before --wait gives up: a minute."""
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
    require(values)
    if values.get("output_dir"):
        print(
            f"note: --output_dir {values['output_dir']} would lie in each step's own pod; "
            "checkpoints go to --store, or to the run's artifacts",
            file=sys.stderr,
        )
    return _submit(args, host if "://" in host else f"https://{host}", values)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = OwnFlags("submit")
    parser.add_argument("name")
    for flag in ("--host", "--namespace"):
        parser.add_argument(flag)
    parser.add_argument("--experiment", default="headrace")
    parser.add_argument("--wait", action="store_true")
    return parser.parse_args(words)


def _submit(args: argparse.Namespace, host: str, values: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        package = Path(scratch) / "pipeline.yaml"
        chosen = parameters(values)
        reach(host)
        compile_package(package, {})
        client = _asked(host, lambda: _client(host, args.namespace))
        run = _asked(
            host,
            lambda: client.create_run_from_pipeline_package(
                str(package), arguments=chosen, run_name=args.name,
                experiment_name=args.experiment, namespace=args.namespace, enable_caching=False,
            ),
        )  # fmt: skip
    print(f"run        {args.name}\nid         {run.run_id}\npage       {host.rstrip('/')}/#/runs/details/{run.run_id}")
    if not args.wait:
        return EXIT_DONE
    state = _wait(client, host, run.run_id)
    print(f"state      {state}")
    return EXIT_DONE if state == "SUCCEEDED" else EXIT_FAILURE


def reach(host: str) -> None:
    """HeadraceError when nothing listens at a URL: kfp's client would try for many minutes."""
    try:
        parts = urlsplit(host)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError as error:
        raise InputError(f"--host {host} is no URL: {error}", "write https://host[:port]") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--host {host} is no URL of a web server", "write https://host[:port]")
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        raise HeadraceError(
            f"cannot reach {host}: {error.strerror or error}", "check --host and the network, then try again"
        ) from error


def _client(host: str, namespace: str | None) -> Any:
    from kfp import client

    return client.Client(host=host, namespace=namespace or "kubeflow")


def _wait(client: Any, host: str, run_id: str) -> str:
    # kfp's own wait never ends when a run is cancelled.
    shown, missed = "", 0
    while True:
        try:
            state = str(_asked(host, lambda: client.get_run(run_id)).state)
            missed = 0
        except InputError:
            raise
        except HeadraceError as error:
            missed += 1
            if missed == MISSED_POLLS:
                raise HeadraceError(
                    f"lost sight of the run {run_id}: {error.message}", "it goes on without us"
                ) from error
            state = shown
        if state != shown:
            print(f"{time.strftime('%H:%M:%S')} {state}", file=sys.stderr)
            shown = state
        if state in ENDED:
            return state
        time.sleep(POLL_S)


def _asked(host: str, ask: Callable[[], Any]) -> Any:
    """The back end's answer; one line for whatever keeps it from answering."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        with _quietly():
            return ask()
    except ApiException as error:
        text = " ".join(str(error.body or error.reason or error).split())[:300]
        if error.status in (400, 401, 403, 404):
            raise InputError(
                f"{host} refused ({error.status}): {text}", "check --host, --namespace and access"
            ) from error
        raise HeadraceError(f"{host} failed ({error.status}): {text}", "try again") from error
    except ValueError as error:  # such as two experiments of one name
        raise InputError(f"{host}: {error}", "check --experiment and --namespace") from error
    except (HTTPError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise HeadraceError(f"cannot reach {host}: {text}", "check --host and the network, then try again") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without kfp's own prints, warnings and logged tracebacks: what matters of them is said once, by us."""
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
