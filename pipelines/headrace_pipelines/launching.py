"""What a run or a schedule is made from: flags, the pipeline as an uploaded version, an experiment."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import images
from headrace_pipelines.cluster import KFP, default_cluster, read_cluster
from headrace_pipelines.compiling import check_parameters, check_processes, compile_package
from headrace_pipelines.connection import Connection, connect
from headrace_pipelines.keeping import check_kept, check_store
from headrace_pipelines.parameters import flags, parameters, require
from headrace_pipelines.runs import experiment, experiment_name, find_or_make, named, pages

PIPELINE = "headrace"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of the pipeline on a back end."""

    pipeline_id: str
    version_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where and what to start. arguments: the pipeline's parameters by name; service_account: None for kfp's own."""

    connection: Connection
    experiment_id: str
    version: Version
    arguments: Mapping[str, Any]
    service_account: str | None = None

    def same(self, other: Any) -> bool:
        """Say whether a run or a schedule of the API is one of this version with these arguments."""
        version = other.pipeline_version_reference
        given = other.runtime_config.parameters if other.runtime_config else None
        return (
            version is not None
            and version.pipeline_version_id == self.version.version_id
            and (given or {}) == self.arguments
        )


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own words, and the steps' flags after `--`."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def launch(args: argparse.Namespace, command: str, rest: Sequence[str], example: str) -> Launch:
    """Compile, check, connect, upload. Whatever can be wrong with the flags is told before anything is sent."""
    values = flags(f"{command} NAME --", rest, "Flags of the steps.", example)
    require(values)
    if values.get("output_dir"):
        print(
            f"note: --output_dir {values['output_dir']} would lie in each step's own pod; "
            "checkpoints go to --store, or to the run's artifacts",
            file=sys.stderr,
        )
    arguments = parameters(values)
    cluster = read_cluster(args.cluster) if args.cluster else default_cluster()
    check_processes(values, cluster)
    check_kept(values, cluster, KFP)
    check_store(values)
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        package = Path(scratch) / "pipeline.yaml"
        compile_package(package, {}, cluster, num_nodes=values.get("num_nodes") or 1)
        check_parameters(package, arguments)
        connection = connect(args)
        return Launch(
            connection=connection,
            experiment_id=experiment(connection, experiment_name(args.experiment)),
            version=upload(connection, package),
            arguments=arguments,
            service_account=cluster["train"].service_account,
        )


def version_name(content: bytes) -> str:
    """`TAG-HASH`, of the images' tag and the package's content, in the characters that Kubernetes takes for a name."""
    tag = re.sub(r"[^a-z0-9.-]+", "-", images.tag().lower())
    return f"{tag}-{hashlib.sha256(content).hexdigest()[:12]}"


def upload(connection: Connection, package: Path) -> Version:
    """The version of the pipeline that holds this package; the same package is uploaded once."""
    client, name = connection.client, version_name(package.read_bytes())
    pipeline_id = _pipeline(connection)

    def find() -> str | None:
        reply = connection.ask(lambda: client.list_pipeline_versions(pipeline_id, filter=named(name)))
        found = reply.pipeline_versions
        return str(found[0].pipeline_version_id) if found else None

    def make() -> str:
        made = connection.ask(lambda: client.upload_pipeline_version(str(package), name, pipeline_id=pipeline_id))
        return str(made.pipeline_version_id)

    return Version(pipeline_id=pipeline_id, version_id=find_or_make(find, make), name=name)


def _pipeline(connection: Connection) -> str:
    """Id of the pipeline, which is made when missing: kfp's upload_pipeline would add a version of the same name."""
    client = connection.client

    def find() -> str | None:
        listed = pages(
            lambda token: connection.ask(
                lambda: client.list_pipelines(page_token=token, filter=named(PIPELINE), namespace=connection.namespace)
            ),
            "pipelines",
        )
        return next((str(p.pipeline_id) for p in listed), None)

    def make() -> str:
        body = client.api_models.V2beta1Pipeline(
            name=PIPELINE, display_name=PIPELINE, namespace=connection.namespace,
            description="Validate a stream of documents, train a language model on it, evaluate it.",
        )  # fmt: skip
        return str(connection.ask(lambda: client.pipelines.pipeline_service_create_pipeline(body)).pipeline_id)

    return find_or_make(find, make)
