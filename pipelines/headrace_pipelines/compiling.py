"""`headrace compile`: the DAG as the YAML that Kubeflow takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.artifacts.storage import open_store
from headrace.errors import EXIT_DONE, InputError
from headrace_pipelines.parameters import flags, parameters

DESCRIPTION = "Compile the pipeline; flags become the defaults of its parameters."
EXAMPLE = "  headrace compile -o pipeline.yaml --config examples/quickstart.yaml"
SUFFIXES = (".yaml", ".yml", ".json")


def main(argv: Sequence[str]) -> int:
    """Write the package and say where."""
    parser = argparse.ArgumentParser(prog="headrace compile", add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output", metavar="FILE")
    parser.add_argument("--target", choices=("kfp", "vertex"), default="kfp")
    known, rest = parser.parse_known_args(argv)
    values = flags("compile", rest, f"{DESCRIPTION}\n\n{OPTIONS}", EXAMPLE)
    if not known.output:
        raise InputError("-o FILE is missing", "say where the package goes: headrace compile -o pipeline.yaml")
    path = Path(known.output)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no name of a package; expected one that ends in {', '.join(SUFFIXES)}")
    open_store(str(path.parent)).check_writable()
    path.parent.mkdir(parents=True, exist_ok=True)
    compile_package(path, values)
    print(path)
    return EXIT_DONE


OPTIONS = """  -o FILE, --output FILE   where the package goes (.yaml or .json)
  --target kfp|vertex      the back end it is for (default: kfp); one document serves both"""


def compile_package(path: Path, values: dict[str, Any]) -> None:
    """Compile the DAG into a file; given values become defaults of its parameters."""
    from kfp.compiler import Compiler

    from headrace_pipelines.pipeline import pipeline

    given = {name: value for name, value in parameters(values).items() if value}
    Compiler().compile(pipeline, str(path), pipeline_parameters=given or None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
