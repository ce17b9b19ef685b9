"""metadata.yaml and OWNERS of a room: what a component library would refuse is found here first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from headrace_pipelines.metadata import metadata_problems, owners_problems, requirements

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ASKED = {"kfp": SpecifierSet("==2.17.0"), "torch": SpecifierSet(">=2.13"), "datasets": SpecifierSet(">=5.2")}
PIPELINES = {"name": "Pipelines", "version": "==2.17.0"}
GOOD: dict[str, Any] = {
    "name": "headrace_train",
    "stability": "beta",
    "dependencies": {"kubeflow": [PIPELINES], "external_services": [{"name": "PyTorch", "version": ">=2.13.0"}]},
    "tags": ["training"],
    "lastVerified": datetime(2026, 11, 25, tzinfo=UTC),
}


def said(found: Any) -> list[str]:
    return metadata_problems(found, "headrace_train", ASKED, NOW)


def depending(**groups: Any) -> dict[str, Any]:
    return {**GOOD, "dependencies": {"kubeflow": [PIPELINES], **groups}}


def service(name: Any, version: Any) -> dict[str, Any]:
    return depending(external_services=[{"name": name, "version": version}])


@pytest.mark.parametrize(
    "found",
    [
        GOOD,
        {k: v for k, v in GOOD.items() if k != "tags"},
        {**GOOD, "links": {"documentation": "https://example.org"}},
        {**GOOD, "lastVerified": NOW - timedelta(days=4000)},  # its age is not this check's business
        depending(),
    ],
)
def test_what_is_right(found: dict[str, Any]) -> None:
    assert said(found) == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "expected fields with values"),
        ([GOOD], "expected fields with values"),
        ({k: v for k, v in GOOD.items() if k != "tags"} | {"ci": {}}, "expected name, stability, dependencies, last"),
        (dict(reversed(GOOD.items())), "in this order"),
        ({**GOOD, "description": "x"}, "found name, stability, dependencies, tags, lastVerified, description"),
        ({**GOOD, "name": "train"}, "name is 'train'; expected 'headrace_train'"),
        ({**GOOD, "stability": "Beta"}, "stability is 'Beta'; expected one of experimental, alpha, beta, stable"),
        ({**GOOD, "lastVerified": NOW + timedelta(seconds=1)}, "which is yet to come"),
        ({**GOOD, "lastVerified": NOW.date()}, "expected a time such as"),
        ({**GOOD, "lastVerified": NOW.replace(tzinfo=None)}, "expected a time such as"),
        ({**GOOD, "lastVerified": "2026-11-25T00:00:00Z"}, "expected a time such as"),
        ({**GOOD, "tags": "training"}, "tags are not a list of words"),
        ({**GOOD, "tags": [1]}, "tags are not a list of words"),
        ({**GOOD, "links": ["https://example.org"]}, "links are not names with addresses"),
        ({**GOOD, "dependencies": [PIPELINES]}, "dependencies need `kubeflow`"),
        ({**GOOD, "dependencies": {"external_services": []}}, "dependencies need `kubeflow`"),
        (depending(python=[]), "may have `external_services`"),
        (depending(kubeflow=PIPELINES), "dependencies.kubeflow is not a list of name and version"),
        (depending(kubeflow=[]), "dependencies.kubeflow lacks Pipelines"),
        (depending(external_services=[{"name": "PyTorch"}]), "external_services is not a list of name and version"),
        (depending(external_services=["PyTorch"]), "external_services is not a list of name and version"),
        (service("Torch", ">=2.13.0"), "no package is known for the dependency 'Torch'; expected one of Google"),
        (service(["PyTorch"], ">=2.13.0"), "no package is known for the dependency ['PyTorch']"),
        (service("PyTorch", ">=2.13"), "the version of PyTorch is '>=2.13'; expected such as"),
        (service("PyTorch", 2.13), "the version of PyTorch is 2.13; expected such as"),
        (service("PyTorch", ">=2.12.0"), "the version of PyTorch is >=2.12.0; pyproject.toml asks for torch>=2.13"),
        (service("PyTorch", "==2.13.0"), "the version of PyTorch is ==2.13.0; pyproject.toml asks for torch>=2.13"),
        (service("Weights & Biases", ">=0.31.0"), "pyproject.toml asks for no wandb"),
    ],
)
def test_what_is_wrong(found: Any, says: str) -> None:
    (only,) = said(found)
    assert says in only


@pytest.mark.parametrize("found", [None, [], {}, {"approvers": None}, {"approvers": []}, {"approvers": [7]}])
def test_owners_without_an_approver(found: Any) -> None:
    assert "expected a list of one name or more" in owners_problems(found)[0]


def test_a_field_that_is_missing() -> None:
    order, missing = said({k: v for k, v in GOOD.items() if k != "stability"})
    assert "expected name, stability, dependencies, lastVerified in this order" in order
    assert "stability is None" in missing


def test_owners_with_one() -> None:
    assert owners_problems({"approvers": ["somebody"], "reviewers": []}) == []


def test_versions_of_the_extras_are_known() -> None:
    project = {"dependencies": ["datasets>=5.2"], "optional-dependencies": {"train": ["torch>=2.13"], "dev": ["x"]}}
    assert requirements({"project": project}) == {
        "datasets": SpecifierSet(">=5.2"), "torch": SpecifierSet(">=2.13"), "x": SpecifierSet(),
    }  # fmt: skip
