"""`headrace compile`: the DAG as the YAML that Kubeflow Pipelines or Vertex AI takes."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace import images
from headrace.artifacts.files import write_bytes
from headrace.artifacts.storage import open_store
from headrace.errors import EXIT_DONE, EXIT_FAILURE, InputError
from headrace_pipelines.cluster import KFP, TARGETS, VERTEX, Cluster, default_cluster, read_cluster
from headrace_pipelines.keeping import check_kept, check_store
from headrace_pipelines.parameters import OwnFlags, flags, parameters, require

SUFFIXES = {KFP: (".yaml", ".yml"), VERTEX: (".yaml", ".yml", ".json")}
"""kfp writes what is Kubernetes' into a second document, which JSON has no place for."""
EXAMPLE = "  headrace compile -o pipeline.yaml --config examples/quickstart.yaml --cluster examples/cluster.yaml"
USAGE = f"""usage: headrace compile -o FILE [--target kfp|vertex] [--cluster FILE] [--check] [--config FILE] [FLAGS]

Compile the pipeline into a package. Flags of the steps become the defaults of its parameters.

  -o FILE, --output FILE   where the package goes (.yaml; for vertex also .json)
  --target kfp|vertex      the back end it is for (default: kfp); Vertex AI takes resources from --cluster, and
                           neither Kubernetes secrets nor volumes, so a package for it has none
  --cluster FILE           what the steps get: CPUs, memory, GPUs, secrets, node selectors … (examples/cluster.yaml)
  --check                  write nothing: see whether a run with these flags could be started. With -o, also whether
                           FILE is what would be written; 1 when it is not
  --config FILE            YAML or JSON file of flags; those on the command line win

example:
{EXAMPLE}

`headrace run --help` lists the flags."""
_SHOWN_DICT = re.compile(rb"^(#    \w+: dict) \[Default: .*\]$", re.MULTILINE)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,), "STRUCT": (dict,), "LIST": (list,), "NUMBER_INTEGER": (int,), "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Write the package and say where; with --check say whether it could be."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    parser = OwnFlags("compile")
    parser.add_argument("-o", "--output")
    parser.add_argument("--target", choices=TARGETS, default=KFP)
    parser.add_argument("--cluster")
    parser.add_argument("--check", action="store_true")
    own, rest = parser.parse_known_args(argv)
    values = flags("compile", rest, "Flags of the steps.", EXAMPLE)
    if not own.output and not own.check:
        raise InputError("-o FILE is missing", "say where the package goes: headrace compile -o pipeline.yaml")
    path = _place(own.output, SUFFIXES[own.target]) if own.output else None
    chosen = parameters(values)
    cluster = read_cluster(own.cluster) if own.cluster else default_cluster()
    check_processes(values, cluster)
    check_kept(values, cluster, own.target)
    if own.check:
        require(values)
        check_store(values)
        return check(path, chosen, values, cluster, own.target)
    assert path is not None
    open_store(str(path.parent)).check_writable()
    compile_package(path, values, cluster, own.target)
    for room in images.ROOMS:
        print(f"{room:10s} {images.image(room)}", file=sys.stderr)
    print(path)
    return EXIT_DONE


def _place(given: str, suffixes: tuple[str, ...]) -> Path:
    """Where the package goes; InputError for what can be no file of this machine."""
    path = Path(given)
    if "://" in given:
        raise InputError(f"-o {given} is no file of this machine", "write the package to a file, then copy that there")
    if path.suffix not in suffixes:
        raise InputError(f"{path} is no name of a package; expected one that ends in {', '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"-o {path} is a folder", f"name a file in it: {path / f'pipeline{suffixes[0]}'}")
    return path


def compile_package(
    path: Path, values: Mapping[str, Any], cluster: Cluster | None = None, target: str = KFP, num_nodes: int = 1
) -> None:
    """Compile the DAG into a file; given values become defaults of its parameters. The same input gives the same bytes.

    The file is whole or as it was. num_nodes: that the package is for, where `values` do not say. InputError when the
    images that were built here are of another version, for several nodes on Vertex AI, and when nothing can be written.
    """
    cluster = default_cluster() if cluster is None else cluster
    several = (values.get("num_nodes") or num_nodes) > 1
    if several and target == VERTEX:
        raise InputError("Vertex AI has no TrainJobs", "leave --num_nodes at 1 for --target vertex")
    images.check_built()
    from kfp.compiler import Compiler

    from headrace_pipelines.pipeline import make_pipeline

    given = {name: value for name, value in parameters(values).items() if value}
    pipeline = make_pipeline(cluster, target, several_nodes=several)
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
            fresh = Path(scratch) / f"pipeline{path.suffix}"
            Compiler().compile(pipeline, str(fresh), pipeline_parameters=given or None)
            # kfp repeats the defaults in a comment on top, those of a dict in an order that changes between processes.
            write_bytes(path, _SHOWN_DICT.sub(rb"\1", fresh.read_bytes()))
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}", "name a file that may be written, with free space for it"
        ) from error


def check_processes(values: Mapping[str, Any], cluster: Cluster) -> None:
    """InputError for more processes on a machine than the cluster file has accelerators for."""
    asked, there = values.get("nproc_per_node") or 0, cluster["train"].accelerators
    if asked > there > 0:
        raise InputError(
            f"--nproc_per_node is {asked}, and the train step gets {there} {cluster['train'].accelerator}",
            f"set accelerators: {asked} for the step train in the cluster file, and name that with --cluster",
        )


def check(
    path: Path | None, chosen: Mapping[str, Any], values: Mapping[str, Any], cluster: Cluster, target: str
) -> int:
    """Hold a run's parameters against the inputs of the package, and `path` against what would be written there."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        fresh = Path(scratch) / ("pipeline.yaml" if path is None else path.name)
        compile_package(fresh, values, cluster, target)
        check_parameters(fresh, chosen)
        if path is not None and (not path.is_file() or path.read_bytes() != fresh.read_bytes()):
            state = "is not what these flags compile to" if path.is_file() else "is not there"
            print(f"headrace: error: {path} {state}\n  run headrace compile without --check", file=sys.stderr)
            return EXIT_FAILURE
    print("a run with these flags can be started" + (f"; {path} is up to date" if path is not None else ""))
    return EXIT_DONE


def check_parameters(package: Path, chosen: Mapping[str, Any]) -> None:
    """InputError for a parameter that the package does not have, or of another type, or that is missing.

    kfp's own client sends whatever it is given, and the back end fails later or not at all.
    """
    spec = next(yaml.safe_load_all(package.read_text("utf-8")))
    inputs: Mapping[str, Any] = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, value in chosen.items():
        if name not in inputs:
            raise InputError(f"the pipeline has no parameter {name}", f"it has {', '.join(inputs)}")
        kind = str(inputs[name]["parameterType"])
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise InputError(f"the parameter {name} is {value!r}; the pipeline takes {kind} there")
    for name, found in inputs.items():
        if not found.get("isOptional") and name not in chosen and "defaultValue" not in found:
            raise InputError(f"the parameter {name} is missing", f"give --{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
