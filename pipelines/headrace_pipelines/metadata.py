"""What a component library asks to know of each room, checked: metadata.yaml and OWNERS.

The fields are those of kubeflow/pipelines-components. How old `lastVerified` is, is for `verified` to tell: a checkout
must not turn bad by lying still.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from headrace.errors import InputError
from headrace.images import ROOMS
from headrace_pipelines.readmes import FOLDER

METADATA, OWNERS, PROJECT = "metadata.yaml", "OWNERS", Path("pyproject.toml")
REQUIRED = ("name", "stability", "dependencies", "lastVerified")
"""In this order."""
OPTIONAL = ("tags", "links")
STABILITIES = ("experimental", "alpha", "beta", "stable")
PIPELINES = "Pipelines"
DEPENDENCIES = {
    "kubeflow": {PIPELINES: "kfp", "Kubeflow SDK": "kubeflow"},
    "external_services": {
        "Google Cloud Storage": "google-cloud-storage",
        "Hugging Face Datasets": "datasets",
        "Hugging Face Hub": "huggingface_hub",
        "Hugging Face Transformers": "transformers",
        "PyTorch": "torch",
        "Weights & Biases": "wandb",
    },
}
"""Names that metadata.yaml may use, with the package in pyproject.toml whose versions they must agree with."""
VERSION = re.compile(r"(==|>=|<=)\d+\.\d+\.\d+")


def problems(now: datetime) -> list[str]:
    """What is wrong in the rooms of this checkout, a line each, naming the file; InputError for one that is no YAML."""
    asked = requirements(tomllib.loads(PROJECT.read_text("utf-8")))
    found = []
    for room in ROOMS:
        metadata, owners = FOLDER / room / METADATA, FOLDER / room / OWNERS
        found += [f"{metadata}: {said}" for said in metadata_problems(load(metadata), f"headrace_{room}", asked, now)]
        found += [f"{owners}: {said}" for said in owners_problems(load(owners))]
    return found


def load(path: Path) -> Any:
    """The content of a YAML file; InputError when it is not there or none."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}", "each room has one; see CONTRIBUTING.md") from error


def requirements(project: Mapping[str, Any]) -> dict[str, SpecifierSet]:
    """The versions that a pyproject.toml asks for, by package, its extras' among them."""
    listed = project["project"]
    lines = [*listed["dependencies"], *(line for extra in listed["optional-dependencies"].values() for line in extra)]
    return {one.name: one.specifier for one in map(Requirement, lines)}


def metadata_problems(found: Any, name: str, asked: Mapping[str, SpecifierSet], now: datetime) -> list[str]:
    """What is wrong with the content of a metadata.yaml."""
    if not isinstance(found, dict):
        return ["expected fields with values"]
    said = []
    if tuple(field for field in found if field not in OPTIONAL) != REQUIRED:
        said.append(f"found {', '.join(map(str, found))}; expected {', '.join(REQUIRED)} in this order, "
                    f"and at most {', '.join(OPTIONAL)} beside them")  # fmt: skip
    if found.get("name") != name:
        said.append(f"name is {found.get('name')!r}; expected {name!r}")
    if found.get("stability") not in STABILITIES:
        said.append(f"stability is {found.get('stability')!r}; expected one of {', '.join(STABILITIES)}")
    verified = found.get("lastVerified")
    if not isinstance(verified, datetime) or verified.tzinfo is None:
        said.append(f"lastVerified is {verified}; expected a time such as 2026-11-25T00:00:00Z")
    elif verified > now:
        said.append(f"lastVerified is {verified}, which is yet to come")
    tags, links = found.get("tags", []), found.get("links", {})
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        said.append("tags are not a list of words")
    if not isinstance(links, dict) or not all(isinstance(link, str) for link in links.values()):
        said.append("links are not names with addresses")
    return said + _dependency_problems(found.get("dependencies"), asked)


def _dependency_problems(found: Any, asked: Mapping[str, SpecifierSet]) -> list[str]:
    if not isinstance(found, dict) or "kubeflow" not in found or not found.keys() <= DEPENDENCIES.keys():
        return [f"dependencies need `kubeflow` and may have `external_services`; found {found!r}"]
    said = []
    for group, entries in found.items():
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and set(e) == {"name", "version"} for e in entries
        ):
            said.append(f"dependencies.{group} is not a list of name and version")
            continue
        if group == "kubeflow" and PIPELINES not in [entry["name"] for entry in entries]:
            said.append(f"dependencies.kubeflow lacks {PIPELINES}")
        for entry in entries:
            said += _version_problems(entry["name"], entry["version"], DEPENDENCIES[group], asked)
    return said


def _version_problems(
    name: Any, version: Any, packages: Mapping[str, str], asked: Mapping[str, SpecifierSet]
) -> list[str]:
    if not isinstance(name, str) or name not in packages:
        return [f"no package is known for the dependency {name!r}; expected one of {', '.join(packages)}"]
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        return [f"the version of {name} is {version!r}; expected such as '>=1.2.3'"]
    package = packages[name]
    if package not in asked:
        return [f"{name} is a dependency here, but {PROJECT} asks for no {package}"]
    if SpecifierSet(version) != asked[package]:
        return [f"the version of {name} is {version}; {PROJECT} asks for {package}{asked[package]}"]
    return []


def owners_problems(found: Any) -> list[str]:
    """What is wrong with the content of an OWNERS file."""
    approvers = found.get("approvers") if isinstance(found, dict) else None
    if not isinstance(approvers, list) or not approvers or not all(isinstance(a, str) for a in approvers):
        return [f"approvers are {approvers!r}; expected a list of one name or more"]
    return []
