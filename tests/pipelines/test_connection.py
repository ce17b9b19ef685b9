"""Credentials, as kfp's own client sends them, and what keeps a back end from answering."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_pipelines import asking, connection
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import PAGE, RESET, STALL, Fault, KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
SECRET = "s3cret-of-mine"


def bearer(token: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KFP_TOKEN", SECRET)
    with KfpServer(headers=bearer()) as server:
        assert main(["list", "--host", server.url]) == 0


def test_a_token_file_is_read_anew_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KFP_TOKEN", "of another place")
    file = tmp_path / "token"
    file.write_text("old\n")
    with KfpServer(headers=bearer("old"), looks=["RUNNING", "RUNNING", "SUCCEEDED"]) as server:
        run_id = server.add_run("mine", fixed=False)

        def rotate(request: object) -> None:
            if len(server.calls(run_id)) == 3:
                file.write_text("new\n")
                server.headers, server.faults = bearer("new"), [Fault(run_id, 503)]

        server.before = rotate
        argv = ["watch", run_id, "--host", server.url, "--token_file", str(file), "--poll_s", "0.01"]
        assert main(argv) == 0
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer old", "Bearer new"}


def test_the_service_account_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with KfpServer(headers=bearer()) as server:
        assert main(["list", "--host", server.url]) == 0


def test_the_service_of_the_cluster_in_a_pod(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(connection, "IN_CLUSTER", "http://127.0.0.1:9")
    # The namespace is that of the user's runs, not of the service.
    assert "cannot reach http://127.0.0.1:9" in error_of("list", "--namespace", "team-a")[1]
    with KfpServer() as server:
        monkeypatch.setattr(connection, "IN_CLUSTER", server.url)
        assert main(["list", "--namespace", "team-a"]) == 0


@pytest.mark.parametrize("by", ["environment", "file"])
def test_cookies(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cookies = f"authservice_session={SECRET}; other=1"
    (tmp_path / "cookies").write_text(cookies + "\n")
    flags = ["--cookies_file", str(tmp_path / "cookies")] if by == "file" else []
    if by == "environment":
        monkeypatch.setenv("HEADRACE_KFP_COOKIES", cookies)
    with KfpServer(headers={"Cookie": cookies}) as server:
        assert main(["list", "--host", server.url, *flags]) == 0


def test_there_is_no_flag_for_a_token_itself(error_of: ErrorOf) -> None:
    assert error_of("list", "--host", "http://127.0.0.1:9", "--token", SECRET)[0] == 2


@pytest.mark.parametrize("status", [401, 500, RESET])
def test_secrets_are_never_printed(status: int, tmp_path: Path) -> None:
    """Also not with --debug, by a server that repeats them."""
    file = tmp_path / "token"
    file.write_text(SECRET)
    with KfpServer(faults=[Fault("/", status, times=99)]) as server:
        env = {**os.environ, "HOME": str(tmp_path), "HEADRACE_KFP_COOKIES": f"session={SECRET}"}
        words = ["list", "--debug", "--host", server.url, "--token_file", str(file)]
        server.said = f"no access with Bearer {SECRET} and session={SECRET}"
        done = subprocess.run(
            [sys.executable, "-m", "headrace_pipelines", *words], env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == (2 if status == 401 else 1)
    assert "headrace: error: " in done.stderr and "Traceback" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("value", [f"{SECRET}\nX-Other: 1", f"{SECRET}é"])
@pytest.mark.parametrize("name", ["HEADRACE_KFP_TOKEN", "HEADRACE_KFP_COOKIES"])
def test_a_secret_that_no_header_may_have(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    monkeypatch.setenv(name, value)
    code, said = error_of("list", "--host", "http://127.0.0.1:9")
    assert code == 2 and f"{name} holds" in said and SECRET not in said


@pytest.mark.parametrize("flag", ["--token_file", "--cookies_file", "--ssl_ca_cert"])
@pytest.mark.parametrize("content", [None, "", b"\xff\xfe"])
def test_a_file_that_is_not_there_or_empty(
    flag: str, content: str | bytes | None, tmp_path: Path, error_of: ErrorOf
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    code, said = error_of("list", "--host", "http://127.0.0.1:9", flag, str(path))
    assert code == 2 and f"{flag} {path} " in said


def test_the_host_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with KfpServer() as ours, KfpServer() as kfps:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfps.url)
        assert main(["list"]) == 0
        monkeypatch.setenv("HEADRACE_KFP_HOST", ours.url)
        assert main(["list"]) == 0
    assert ours.calls("/runs") == kfps.calls("/runs") == ["GET /runs"]


def test_the_namespace_of_kfps_own_settings_is_used_everywhere(tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('{"namespace": "team-a"}')
    with KfpServer(multi_user=True) as server:
        for command in (["list"], ["schedule", "--list"]):
            assert main([*command, "--host", server.url]) == 0
    assert [r.query["namespace"] for r in server.requests] == [["team-a"]] * 2


def test_nobody_listens(error_of: ErrorOf) -> None:
    with KfpServer() as server:
        url = server.url
    code, said = error_of("list", "--host", url)
    assert code == 1 and f"cannot reach {url}: Connection refused" in said and "try again" in said


def test_a_refusal_of_the_first_request_is_told_at_once(error_of: ErrorOf) -> None:
    with KfpServer(headers=bearer()) as server:
        code, said = error_of("list", "--host", server.url)
    assert code == 2 and "refused (401): who is there?" in said and "--token_file" in said
    assert server.calls() == ["GET /healthz"]


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setattr(asking, "REPLY_S", 0.5)
    with KfpServer(faults=[Fault("GET /runs", STALL, times=9)]) as server:
        code, said = error_of("list", "--host", server.url)
    assert code == 1 and "timed out" in said.lower()


def test_a_login_page_is_no_answer(error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault("GET /runs", PAGE)]) as server:
        code, said = error_of("list", "--host", server.url)
    assert code == 2 and "answers with text/html" in said and "/pipeline" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_a_certificate_of_ones_own(tmp_path: Path, error_of: ErrorOf) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = KfpServer()
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server:
        url = server.url.replace("http:", "https:")
        code, said = error_of("list", "--host", url)
        assert code == 1 and "--ssl_ca_cert" in said
        assert main(["list", "--host", url, "--ssl_ca_cert", str(cert)]) == 0
