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
REMEDIES = {
    401: f"give a token ({TOKEN}, --token_file) or cookies ({COOKIES}, --cookies_file)",
    403: "ask for access to the namespace, or give another --namespace",
    404: "check the name, --host and --namespace; `headrace list` shows the runs",
}


def bound(rest: Any, host: str) -> None:
    """Give every request of a client a time limit, and tell an answer from a web page, or whatever else is no JSON."""
    request = rest.request

    def bounded(*words: Any, **named: Any) -> Any:
        named["_request_timeout"] = named.get("_request_timeout") or (CONNECT_S, REPLY_S)
        reply = request(*words, **named)
        kind = reply.getheader("content-type") or "json"
        if "json" not in kind:
            # Of which kfp's client makes an object that is empty.
            raise InputError(
                f"{host} answers with {kind.partition(';')[0]}, not as an API",
                f"a login? {REMEDIES[401]}; or does the address lack a path, such as /pipeline?",
            )
        return reply

    rest.request = bounded


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
