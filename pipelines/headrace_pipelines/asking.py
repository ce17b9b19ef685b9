"""Requests to a back end: each within a time limit, and each failure in one line that holds no secret."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeVar

from headrace.errors import AlreadyExists, HeadraceError, InputError

T = TypeVar("T")
CONNECT_S = 10.0
REPLY_S = 60.0
"""For one reply; kfp's client alone would wait without end."""
UNSURE = (408, 409, 429)
"""Statuses below 500 that say nothing about the request itself."""
TOKEN, COOKIES = "HEADRACE_KFP_TOKEN", "HEADRACE_KFP_COOKIES"
IDS = {
    "V2beta1Experiment": "experiment_id", "V2beta1Pipeline": "pipeline_id",
    "V2beta1PipelineVersion": "pipeline_version_id", "V2beta1Run": "run_id", "V2beta1RecurringRun": "recurring_run_id",
}  # fmt: skip
"""What is found and made again by its id."""
REMEDIES = {
    401: f"give a token ({TOKEN}, --token_file) or cookies ({COOKIES}, --cookies_file)",
    403: "ask for access to the namespace, or give another --namespace",
    404: "check the name, --host and --namespace; `headrace list` shows the runs",
}


def bound(api: Any, host: str) -> None:
    """Give every request of kfp's API client a time limit, and raise for a reply that is no answer of the API.

    Of which the client itself makes objects that are empty, as if nothing were there.
    """
    rest, request, deserialize = api.rest_client, api.rest_client.request, api.deserialize

    def bounded(*words: Any, **named: Any) -> Any:
        named["_request_timeout"] = named.get("_request_timeout") or (CONNECT_S, REPLY_S)
        reply = request(*words, **named)
        kind = reply.getheader("content-type") or "json"
        if "json" not in kind:
            raise InputError(
                f"{host} answers with {kind.partition(';')[0]}, not as an API",
                f"a login? {REMEDIES[401]}; or does the address lack a path, such as /pipeline?",
            )
        try:
            reply.data.decode("utf-8")
        except UnicodeDecodeError:
            raise no_answer(host) from None
        return reply

    def checked(reply: Any, kind: str) -> Any:
        # Of a deletion or a verb nothing is read.
        if kind != "object" and not _answers(reply.data, kind):
            raise no_answer(host)
        return deserialize(reply, kind)

    rest.request, api.deserialize = bounded, checked


def no_answer(host: str) -> HeadraceError:
    """The error for a reply that says nothing, though its status is that of an answer."""
    return HeadraceError(
        f"{host} gave no answer of Kubeflow Pipelines: the reply is cut off, or another server's",
        "try again; if it stays so, check --host, and what stands between here and the server",
    )


def _answers(text: str, kind: str) -> bool:
    """Whether a reply is a JSON object of that kind: empty, as lists of nothing are, or with some field of it."""
    from kfp_server_api import models

    try:
        value = json.loads(text)
    except ValueError:
        return False
    fields = set(getattr(models, kind).attribute_map.values())
    return isinstance(value, dict) and (not value or bool(fields & set(value))) and _fits(value, kind)


def _fits(value: Any, kind: str) -> bool:
    """Whether lists and objects are where the API has them, and what has an id comes with it."""
    from kfp_server_api import models

    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(item, kind[5:-1]) for item in value)
    model = getattr(models, kind, None)
    if model is None or not model.openapi_types:  # text, numbers; enumerations
        return True
    if not isinstance(value, dict) or (kind in IDS and not value.get(IDS[kind])):
        return False
    kinds = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
    return all(_fits(item, kinds[name]) for name, item in value.items() if item is not None and name in kinds)


def asked(host: str, call: Callable[[], T], secrets: Callable[[], list[str]], out: TextIO | None = None) -> T:
    """What `call` returns; kfp's prints go to `out`.

    InputError when the back end refuses for good, AlreadyExists when what should be made is there, HeadraceError when
    there is no answer: it may or may not have done what it was asked.
    """
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    def plain(text: object) -> str:
        told = " ".join(str(text).split())
        for secret in filter(None, secrets()):
            told = told.replace(secret, "[secret]")
        return told[:300]

    # `from None`: a traceback of --debug would print headers.
    try:
        with _quietly(out or io.StringIO()):
            return call()
    except HeadraceError:
        raise
    except ApiException as error:
        raise _refusal(host, int(error.status or 0), plain(_said(error))) from None
    except (HTTPError, OSError, RuntimeError) as error:
        remedy = "check --host and the network, then try again"
        if "certificate" in str(error).lower():
            remedy = "trust its certificate with --ssl_ca_cert FILE"
        raise HeadraceError(f"cannot reach {host}: {plain(error)}", remedy) from None
    except ValueError as error:
        raise InputError(
            f"{host} cannot be asked: {type(error).__name__} in a setting", "check the token, the cookies, and "
            "~/.config/kfp/context.json",
        ) from None  # fmt: skip


def _said(error: Any) -> object:
    """The message in the body of a refusal, which is JSON where it comes from the API itself."""
    try:
        body = json.loads(error.body)
        return body.get("message") or body.get("error_message") or body.get("error") or body
    except (TypeError, ValueError, AttributeError):
        return error.body or error.reason or error


def _refusal(host: str, status: int, said: str) -> HeadraceError:
    if status == 409:
        return AlreadyExists(f"{host}: {said}", "try again")
    if status in UNSURE or status >= 500 or status < 400:
        return HeadraceError(f"{host} failed ({status}): {said}", "try again")
    return InputError(
        f"{host} refused ({status}): {said}", REMEDIES.get(status, "check --host, --namespace and access")
    )


@contextlib.contextmanager
def _quietly(out: TextIO) -> Iterator[None]:
    """Without kfp's own warnings and logged tracebacks, its prints to `out`: what matters of them is said by us."""
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
