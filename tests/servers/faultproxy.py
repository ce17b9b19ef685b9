"""An HTTP proxy that breaks the exchanges a test names, and records them all."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, get_args
from urllib.parse import urlsplit

from tests.servers.listening import Handler, Listener

Kind = Literal["status", "reset", "reset_mid", "truncate", "slow", "hang", "drop_reply"]
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "proxy-connection"}


@dataclass
class Fault:
    """What befalls requests whose `METHOD /path?query` holds the pattern, `times` times (-1: for ever).

    status      answered with this status; upstream never hears of it
    reset       connection reset; upstream never hears of it
    reset_mid   the reply breaks off after `after_bytes` of its body with a reset
    truncate    the same with an end of file, short of the announced length
    slow        handed on after delay_s
    hang        silence after `after_bytes` of the reply's body, or from the start when 0 (upstream then never hears
                of it); ends after delay_s, or with the proxy when 0
    drop_reply  upstream does its work, the client only sees a reset

    reset_mid, truncate and hang always keep back at least the last byte of a body, and spare a reply without one.
    """

    match: re.Pattern[str]
    kind: Kind
    times: int
    status: int
    after_bytes: int
    delay_s: float
    hits: int = 0


@dataclass
class Exchange:
    """One request and what became of it. range: empty where none was asked for; status: None if no reply was begun."""

    method: str
    path: str
    range: str
    fault: Kind | None = None
    status: int | None = None
    begun: float = field(default_factory=time.monotonic)


class FaultProxy(Listener):
    """Hands on to `upstream_url` (http://host:port) everything that no fault matches, until the end of `with`.

    bytes_per_s: how fast the bodies of a connection's requests come in; as fast as they can when 0.
    """

    def __init__(self, upstream_url: str, *, bytes_per_s: float = 0.0) -> None:
        super().__init__(_ProxyHandler)
        parts = urlsplit(upstream_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{upstream_url!r} is not the URL of an HTTP server")
        self.upstream_url = upstream_url.rstrip("/")
        self.upstream = (parts.hostname, parts.port or 80)
        self.bytes_per_s = bytes_per_s
        self.log: list[Exchange] = []
        self.closing = threading.Event()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        super().__exit__(kind, error, trace)

    def add(
        self,
        match: str,
        kind: Kind,
        times: int = 1,
        status: int = 503,
        after_bytes: int = 0,
        delay_s: float = 0.0,
    ) -> Fault:
        """A further fault; of several that match a request the oldest with hits left is the one. See `Fault`."""
        if kind not in get_args(Kind):
            raise ValueError(f"no fault {kind!r}; one of {', '.join(get_args(Kind))}")
        fault = Fault(re.compile(match), kind, times, status, after_bytes, delay_s)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forgets faults and log."""
        with self._lock:
            self._faults.clear()
            self.log.clear()

    def record(self, method: str, path: str, asked_range: str) -> tuple[Exchange, Fault | None]:
        """Logs a request and spends the fault that is due, if any."""
        with self._lock:
            exchange = Exchange(method, path, asked_range)
            self.log.append(exchange)
            for fault in self._faults:
                if fault.hits != fault.times and fault.match.search(f"{method} {path}"):
                    fault.hits += 1
                    exchange.fault = fault.kind
                    return exchange, fault
        return exchange, None

    def here(self, text: str) -> str:
        """Upstream's own addresses turned into the proxy's, so that clients who follow them do not go around it."""
        return text.replace(self.upstream_url, self.url)


class _ProxyHandler(Handler):
    owner: FaultProxy

    def answer(self) -> None:
        exchange, fault = self.owner.record(self.command, self.path, self.headers.get("Range", ""))
        body = self.body()
        if self.owner.bytes_per_s:
            self.owner.closing.wait(len(body) / self.owner.bytes_per_s)
        if fault and fault.kind == "slow":
            self.owner.closing.wait(fault.delay_s)
        if fault and fault.kind == "reset":
            self._reset()
        elif fault and fault.kind == "hang" and fault.after_bytes == 0:
            self._hang(fault)
        elif fault and fault.kind == "status":
            exchange.status = fault.status
            self._reply(fault.status, [("Content-Type", "application/json")], b'{"error": "injected"}')
        else:
            self._hand_on(body, exchange, fault)

    def _hand_on(self, body: bytes, exchange: Exchange, fault: Fault | None) -> None:
        try:
            status, headers, data = self._ask_upstream(body)
        except (OSError, http.client.HTTPException):
            self._reset()
            return
        if fault and fault.kind == "drop_reply":
            self._reset()
            return
        exchange.status = status
        if fault is None or fault.kind == "slow" or not data:
            self._reply(status, headers, data)
            return
        self._reply(status, headers, data, min(fault.after_bytes, len(data) - 1))
        self.wfile.flush()
        if fault.kind == "reset_mid":
            self._reset()
        elif fault.kind == "hang":
            self._hang(fault)
        self.close_connection = True

    def _ask_upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of upstream's reply; of a HEAD's reply the length stays among the headers."""
        connection = http.client.HTTPConnection(*self.owner.upstream)
        try:
            # The client's own Host goes along: servers build links from it, which then lead back through here.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _PER_HOP | {"content-length"}:
                    connection.putheader(name, value)
            if body or self.command in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            reply = connection.getresponse()
            data = reply.read()
            dropped = _PER_HOP if self.command == "HEAD" else _PER_HOP | {"content-length"}
            headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in dropped]
        finally:
            connection.close()
        headers = [(k, self.owner.here(v) if k.lower() in ("location", "link") else v) for k, v in headers]
        # Descriptions of objects name where to download them; what is stored in an object is left alone.
        if reply.headers.get_content_type() == "application/json" and "alt=media" not in self.path:
            data = data.replace(self.owner.upstream_url.encode(), self.owner.url.encode())
        return reply.status, headers, data

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None) -> None:
        """Announces all of the data and sends it up to the cut."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.owner.reset_when_closed(self.connection)
        self.close_connection = True

    def _hang(self, fault: Fault) -> None:
        self.owner.closing.wait(fault.delay_s or None)
        self.close_connection = True
