"""`headrace models`: the versions published to a place, which one is current and was, and the way back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from tabulate import tabulate

from headrace.artifacts.files import parse_json
from headrace.artifacts.storage import Store, open_store
from headrace.errors import EXIT_DONE, AlreadyExists, HeadraceError, InputError
from headrace.evaluate.card import table
from headrace.evaluate.shelf import (
    ROLLED_BACK,
    Pointer,
    Promotion,
    move,
    read_pointer,
    record_of,
    versions,
)

USAGE = """usage: headrace models list PLACE [--json]
       headrace models show PLACE [VERSION] [--json]
       headrace models rollback PLACE [VERSION] [--json]

The versions that `headrace evaluate --publish PLACE` put into a folder or gs:// URI. One is current, and
PLACE/current.json names it; the others stay.

  list         every version: when it became current, its held-out loss, what the gate said
  show         one version (default: the current one): scores, gate, lineage, every time it became current
  rollback     make an earlier version current again (default: the one before the current one), once its files are seen
               to be there; refused when another model becomes current meanwhile

  --json       for scripts: list gives an object a line; show and rollback give one object

example:
  headrace models list gs://bucket/models
  headrace models rollback gs://bucket/models step-2500-1a2b3c4d"""
PAPERS = ("metrics.json", "lineage.json")


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"headrace models: {message}", "`headrace models --help` shows how it is used")


def main(argv: Sequence[str]) -> int:
    """Do one of the three; its exit code."""
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE if argv else InputError.exit_code
    flags = _Flags(prog="headrace models", add_help=False, allow_abbrev=False)
    flags.add_argument("action", choices=("list", "show", "rollback"))
    flags.add_argument("place")
    flags.add_argument("version", nargs="?")
    flags.add_argument("--json", action="store_true")
    flags.add_argument("--debug", action="store_true")
    args = flags.parse_args(argv)
    store = open_store(args.place)
    pointer = read_pointer(store)
    if args.action == "list":
        if args.version:
            raise InputError(f"headrace models list takes a place alone, found {args.version!r} too")
        print(_listed(store, pointer, as_json=args.json))
    elif args.action == "show":
        print(_shown(store, pointer, args.version, as_json=args.json))
    else:
        print(_rolled_back(store, pointer, args.version, as_json=args.json))
    return EXIT_DONE


def _listed(store: Store, pointer: Pointer, *, as_json: bool) -> str:
    rows = [_row(pointer, version) for version in versions(store, pointer.promotions)]
    if as_json:
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if not rows:
        return f"no model is published in {store.uri}"
    head = ("", "version", "became current (UTC)", "by", "held-out loss", "gate")
    cells = [
        (
            "*" if row["current"] else "", row["version"], row["at"] or "never", row["by"] or "",
            "" if row["eval_loss"] is None else f"{row['eval_loss']:.4f}", row["gate"] or "",
        )
        for row in rows
    ]  # fmt: skip
    return tabulate(cells, head, tablefmt="plain", disable_numparse=True)


def _row(pointer: Pointer, version: str) -> dict[str, Any]:
    """What the history says of a version: of the last time that it became current."""
    mine = [p for p in pointer.promotions if p.version == version]
    last = mine[-1] if mine else None
    judged = next((p for p in reversed(mine) if p.gate is not None), None)
    return {
        "version": version,
        "current": pointer.current is not None and pointer.current.version == version,
        "at": last.at or None if last else None,
        "by": last.by if last else None,
        "step": last.step if last else None,
        "eval_loss": judged.eval_loss if judged else None,
        "gate": judged.gate.get("outcome") if judged and judged.gate else None,
    }


def _shown(store: Store, pointer: Pointer, version: str | None, *, as_json: bool) -> str:
    if version is None:
        version = _current(store, pointer).version
    record = record_of(store, version)
    there = store.child(version)
    metrics, lineage = (
        parse_json(there.read(name), f"{there.uri}/{name}") if there.exists(name) else None for name in PAPERS
    )
    times = [p for p in pointer.promotions if p.version == version]
    facts = {
        **_row(pointer, version), "uri": there.uri, "commit_hash": record.hash, "step": record.step,
        "promotions": [vars(p) for p in times], "metrics": metrics, "lineage": lineage,
    }  # fmt: skip
    if as_json:
        return json.dumps(facts, ensure_ascii=False)
    return "\n\n".join(part for part in _told(facts, times) if part)


def _told(facts: dict[str, Any], times: Sequence[Promotion]) -> list[str]:
    """A version for people, in paragraphs."""
    metrics, lineage = facts["metrics"] or {}, facts["lineage"] or {}
    dataset, gate = lineage.get("dataset") or {}, metrics.get("gate") or {}
    rows = [
        ("version", facts["version"] + (" (current)" if facts["current"] else "")),
        ("place", facts["uri"]),
        ("commit", facts["commit_hash"]),
        ("step", facts["step"]),
        ("dataset", dataset.get("name")),
        ("revision", dataset.get("revision")),
        ("manifest", dataset.get("manifest_hash")),
        ("plan", lineage.get("plan_hash")),
        ("code", lineage.get("git_commit")),
        ("image", lineage.get("image")),
        ("gate", gate.get("outcome")),
    ]
    plain = tabulate([r for r in rows if r[1] not in (None, "")], tablefmt="plain", disable_numparse=True)
    return [
        plain,
        "\n".join(gate.get("reasons") or ()),
        table(metrics) if "documents" in metrics else "",
        "\n".join(f"{p.by} {p.at}" for p in times) or "never current",
    ]


def _current(store: Store, pointer: Pointer) -> Promotion:
    if pointer.current is None:
        raise InputError(
            f"no model is current in {store.uri}", "publish one with `headrace evaluate --publish`, or check the place"
        )
    return pointer.current


def _rolled_back(store: Store, pointer: Pointer, version: str | None, *, as_json: bool) -> str:
    current = _current(store, pointer)
    if version is None:
        if pointer.previous is None:
            raise InputError(
                f"nothing was current in {store.uri} before {current.version}",
                "name the version to make current; `headrace models list` shows what there is",
            )
        version = pointer.previous.version
    if version == current.version:
        raise InputError(f"{version} is current already", "name another version, or none for the one before")
    promotion = Promotion.now(version, record_of(store, version), ROLLED_BACK)
    try:
        move(store, pointer, promotion)
    except AlreadyExists as error:
        now = _current(store, read_pointer(store)).version
        raise HeadraceError(
            f"{now} became current in {store.uri} meanwhile: nothing was rolled back",
            "look at `headrace models list`, then decide again",
        ) from error
    if as_json:
        return json.dumps({"version": version, "before": current.version, "uri": store.child(version).uri})
    return f"{version} is current in {store.uri}; before it was {current.version}"
