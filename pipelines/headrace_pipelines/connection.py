"""The connection to a Kubeflow Pipelines back end: host, credentials as kfp's own client takes them, errors."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from headrace.errors import HeadraceError, InputError
from headrace_pipelines import asking
from headrace_pipelines.asking import CONNECT_S, COOKIES, REMEDIES, TOKEN, asked, bound, no_answer
from headrace_pipelines.parameters import OwnFlags

T = TypeVar("T")
HOSTS = ("HEADRACE_KFP_HOST", "KF_PIPELINES_ENDPOINT")
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
FLAGS = f"""back end:
  --host URL           its API (default: {", ".join(HOSTS)}; in a pod, kfp's own service)
  --namespace NAME     Kubernetes namespace, where there are several users
  --token_file FILE    bearer token, read anew for each request (or {TOKEN}; in a pod, the
                       service account's, which KF_PIPELINES_SA_TOKEN_PATH may place)
  --cookies_file FILE  Cookie header of a login (or {COOKIES})
  --ssl_ca_cert FILE   certificates to trust"""


class Connection:
    """A kfp client that answers within bounds. namespace: None where the back end has a single user."""

    def __init__(self, client: Any, host: str, namespace: str | None, secrets: Callable[[], list[str]]) -> None:
        self.client, self.host, self.namespace = client, host, namespace
        self._secrets = secrets

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns; errors are those of `asked`."""
        return asked(self.host, call, self._secrets)

    def page(self, run_id: str) -> str:
        """Address of a run in the user interface."""
        ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT") or self.host
        return f"{ui.rstrip('/')}/#/runs/details/{run_id}"


def parser(command: str) -> OwnFlags:
    """A parser that knows the flags of the connection. There is none for a token: other users see arguments."""
    made = OwnFlags(command)
    for flag in ("--host", "--namespace", "--token_file", "--cookies_file", "--ssl_ca_cert"):
        made.add_argument(flag)
    made.add_argument("--debug", action="store_true")
    return made


def connect(args: argparse.Namespace) -> Connection:
    """Connect as the flags, then the environment, then kfp's own settings say; what is wrong with them first."""
    host = _host(args.host)
    token_file = args.token_file
    token = "" if token_file else os.environ.get(TOKEN, "").strip()
    cookies = (
        _content(args.cookies_file, "--cookies_file") if args.cookies_file else os.environ.get(COOKIES, "").strip()
    )
    _check_header(token, TOKEN)
    _check_header(cookies, args.cookies_file or COOKIES)
    if token_file:
        _check_header(_content(token_file, "--token_file"), token_file)
    if args.ssl_ca_cert:
        _content(args.ssl_ca_cert, "--ssl_ca_cert")
    if not token and not token_file:
        token_file = _service_account()
    reach(host)

    def secrets() -> list[str]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return [token, cookies, Path(token_file).read_text("utf-8").strip() if token_file else ""]
        return [token, cookies]

    settings = {
        "host": host, "namespace": args.namespace or "kubeflow", "existing_token": token or None,
        "cookies": cookies or None, "ssl_ca_cert": args.ssl_ca_cert,
    }  # fmt: skip
    # A login through Google's proxy prints what to do.
    client = asked(host, lambda: _client(settings, token_file), secrets, sys.stderr)
    return Connection(client, host, args.namespace or client.get_user_namespace() or None, secrets)


def reach(host: str) -> None:
    """HeadraceError when nothing listens at a URL: kfp's client would try for many minutes."""
    try:
        parts = urlsplit(host)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise InputError(f"--host {host} is no URL: {error}", "write https://host[:port]") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--host {host} is no URL of a web server", "write https://host[:port]")
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        raise HeadraceError(
            f"cannot reach {host}: {error.strerror or error}", "check --host and the network, then try again"
        ) from error


def _host(given: str | None) -> str:
    host = given or next((os.environ[name] for name in HOSTS if os.environ.get(name)), None)
    if host is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        # Said here: kfp would look for its service in --namespace, which is the user's, not its own.
        host = IN_CLUSTER
    if host is None:
        raise InputError("no Kubeflow Pipelines host is known", f"give --host URL, or set {HOSTS[0]}")
    host = host if "://" in host else f"https://{host}"
    # Before it is parsed: the complaint about it would print it.
    if "@" in re.split("[/?#]", host.partition("://")[2])[0]:
        raise InputError("--host holds a name or password", f"leave it out; {REMEDIES[401]}")
    return host


def _content(path: str, flag: str) -> str:
    expected = f"{flag} takes a text file that you may read"
    try:
        found = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{flag} {path} cannot be read: {why}", expected) from None
    if not found:
        raise InputError(f"{flag} {path} is empty", expected)
    return found


def _check_header(value: str, place: str) -> None:
    # Before it is sent: the HTTP client's own complaint would print it.
    if not re.fullmatch(r"[\x20-\x7e]*", value.strip()):
        raise InputError(f"{place} holds line breaks or characters that no header may have", "expected one plain line")


def _service_account() -> str | None:
    """Where a pod has the token of its service account for kfp, if it has one."""
    from kfp import client

    path = os.environ.get(client.KF_PIPELINES_SA_TOKEN_ENV) or client.KF_PIPELINES_SA_TOKEN_PATH
    return path if Path(path).is_file() else None


def _client(settings: dict[str, Any], token_file: str | None) -> Any:
    from kfp import client

    class Client(client.Client):  # type: ignore[misc]  # kfp has no types
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """One try: kfp makes five, 5 s apart, also when it is refused."""
            found = self._healthz_api.healthz_service_get_healthz(_request_timeout=(CONNECT_S, asking.REPLY_S))
            if found is None:
                raise no_answer(str(settings["host"]))
            return found

    if token_file:
        settings = {**settings, "credentials": client.ServiceAccountTokenVolumeCredentials(token_file)}
    made = Client(**settings)
    bound(made._run_api.api_client, str(settings["host"]))
    return made
