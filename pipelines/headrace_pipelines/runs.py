"""Runs and experiments of a back end: looked for by name, made once."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

from headrace.errors import HeadraceError, InputError
from headrace_pipelines.connection import Connection

T = TypeVar("T")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
EXPERIMENT = "headrace"
PAGE = 50
LOOKS_S = (0.0, 1.0, 3.0)
"""Pauses before the looks for what a lost reply may have told: a server may still be at it."""


def named(name: str) -> str:
    """The API's filter for what users call `name`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def pages(ask: Callable[[str], Any], field: str) -> Iterator[Any]:
    """Everything of a list that comes in pages; `ask` takes a page's token, "" for the first.

    HeadraceError when a page comes again: what such a list does not hold may be there all the same.
    """
    token, asked = "", set[str]()
    while token not in asked:
        asked.add(token)
        reply = ask(token)
        yield from getattr(reply, field) or ()
        token = reply.next_page_token or ""
        if not token:
            return
    raise HeadraceError(
        f"the server gave a list without an end: its {field.replace('_', ' ')} begin again",
        "try again; if it stays so, check --host, and what stands between here and the server",
    )


def find_or_make(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What `find` finds, else what `make` makes; when its reply is lost, what it made is found.

    Raises what `make` raised when nothing is found after all: then a second call does no harm.
    """
    found = find()
    if found is not None:
        return found
    try:
        return make()
    except InputError:
        raise
    except HeadraceError as error:
        found = after(error, find)
        if found is None:
            raise
        return found


def after(error: HeadraceError, find: Callable[[], T | None]) -> T | None:
    """What `find` finds after a lost reply, within a few looks; `error` is raised when no look is answered."""
    seen = False
    for pause_s in LOOKS_S:
        time.sleep(pause_s)
        try:
            found = find()
        except InputError:
            raise
        except HeadraceError:
            continue
        seen = True
        if found is not None:
            return found
    if not seen:
        raise error
    return None


def runs(connection: Connection, *, experiment_id: str | None = None, name: str | None = None) -> Iterator[Any]:
    """Runs of an experiment, or of the namespace, the newest first."""
    yield from pages(
        lambda token: connection.ask(
            lambda: connection.client.list_runs(
                page_token=token, page_size=PAGE, sort_by="created_at desc", experiment_id=experiment_id,
                namespace=connection.namespace, filter=None if name is None else named(name),
            )
        ),
        "runs",
    )  # fmt: skip


def find_run(connection: Connection, wanted: str) -> Any:
    """The run of that id, else the newest of that name; InputError when there is none."""
    if _is_id(wanted):
        return connection.ask(lambda: connection.client.get_run(wanted))
    for run in islice(runs(connection, name=wanted), 1):
        return run
    raise InputError(f"there is no run called {wanted!r}", "`headrace list` shows the runs; check --namespace")


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def experiment_name(given: str | None) -> str:
    """The experiment to use: kfp lets its environment overrule the flag, or stand in for it."""
    return (
        os.environ.get("KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME")
        or given
        or os.environ.get("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME")
        or EXPERIMENT
    )


def find_experiment(connection: Connection, name: str) -> str | None:
    """Id of the experiment of that name; None when there is none."""
    reply = connection.ask(
        lambda: connection.client.list_experiments(filter=named(name), namespace=connection.namespace)
    )
    return str(reply.experiments[0].experiment_id) if reply.experiments else None


def known_experiment(connection: Connection, name: str) -> str:
    """Id of the experiment of that name; InputError when there is none."""
    found = find_experiment(connection, name)
    if found is None:
        raise InputError(f"there is no experiment called {name!r}", "check --experiment and --namespace")
    return found


def experiment(connection: Connection, name: str) -> str:
    """Id of the experiment of that name, which is made when missing."""

    def make() -> str:
        made = connection.ask(lambda: connection.client.create_experiment(name, namespace=connection.namespace))
        return str(made.experiment_id)

    return find_or_make(lambda: find_experiment(connection, name), make)
