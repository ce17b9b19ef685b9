"""`headrace compile`: the DAG as the YAML that Kubeflow takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace import images
from headrace.artifacts.storage import open_store
from headrace.errors import EXIT_DONE, InputError
from headrace_pipelines.parameters import OwnFlags, flags, parameters

SUFFIXES = (".yaml", ".yml", ".json")
EXAMPLE = "  headrace compile -o pipeline.yaml --config examples/quickstart.yaml"
USAGE = f"""usage: headrace compile -o FILE [--target kfp|vertex] [--config FILE] [FLAGS]

Compile the pipeline into a package. Flags of the steps become the defaults of its parameters.

  -o FILE, --output FILE   where the package goes (.yaml or .json)
  --target kfp|vertex      the back end it is for (default: kfp); one document serves both
  --config FILE            YAML or JSON file of flags; those on the command line win

example:
{EXAMPLE}

`headrace run --help` lists the flags."""


def main(argv: Sequence[str]) -> int:
    """Write the package and say where."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    parser = OwnFlags("compile")
    parser.add_argument("-o", "--output")
    parser.add_argument("--target", choices=("kfp", "vertex"), default="kfp")
    own, rest = parser.parse_known_args(argv)
    values = flags("compile", rest, "Flags of the steps.", EXAMPLE)
    if not own.output:
        raise InputError("-o FILE is missing", "say where the package goes: headrace compile -o pipeline.yaml")
    path = Path(own.output)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no name of a package; expected one that ends in {', '.join(SUFFIXES)}")
    parameters(values)
    open_store(str(path.parent)).check_writable()
    path.parent.mkdir(parents=True, exist_ok=True)
    compile_package(path, values)
    for room in images.ROOMS:
        print(f"{room:10s} {images.image(room)}", file=sys.stderr)
    print(path)
    return EXIT_DONE


def compile_package(path: Path, values: dict[str, Any]) -> None:
    """Compile the DAG into a file; given values become defaults of its parameters.

    InputError when the images that were built here are of another version.
    """
    images.check_built()
    from kfp.compiler import Compiler

    from headrace_pipelines.pipeline import pipeline

    given = {name: value for name, value in parameters(values).items() if value}
    Compiler().compile(pipeline, str(path), pipeline_parameters=given or None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
