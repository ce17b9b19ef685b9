"""The part that the HTTP servers of the tests share: a port of this machine, a thread, a clean end."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Handler(BaseHTTPRequestHandler):
    """Keep-alive connections that answer at once and log nothing to stderr; every method goes to `answer`."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one packet; otherwise each small reply waits 40 ms for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # what the base class looks for, by the request's method
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Sends the reply to the request that was just read."""
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        """The body of the request, whole, whether its length was announced or it came in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Handler]) -> None:
        self.connections: set[socket.socket] = set()
        self.to_reset: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for this machine's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        if request in self.to_reset:
            self.to_reset.discard(request)
            request.close()  # a polite shutdown first would send FIN, and the other side would see an end of file
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may leave whenever they like
            super().handle_error(request, client_address)


class Listener:
    """Serves on a free port of 127.0.0.1 from `with` on until its end, then closes every connection."""

    def __init__(self, handler: type[Handler]) -> None:
        # The handler is made for each connection by the server, so it finds its owner on its class.
        self._server = _Server(type(handler.__name__, (handler,), {"owner": self}))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name=type(self).__name__
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its other side was faster
        self._thread.join()

    def reset_when_closed(self, connection: socket.socket) -> None:
        """Lets a connection end with a TCP reset in place of an end of file."""
        self._server.to_reset.add(connection)
