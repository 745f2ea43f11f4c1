"""Fetching over https from a server on this machine, with a certificate made for the test."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from pipeline_lib.artifacts import sha256
from pipeline_lib.datasets.files import fetch
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import Data

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"x" * 257 + b"ustar" + b"\0" * 3_000_000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = {
            "/good.tar": (200, {}, CONTENT),
            "/moved.tar": (302, {"Location": "/good.tar"}, b""),
            "/downgraded.tar": (302, {"Location": "http://127.0.0.1:9/good.tar"}, b""),
            "/short.tar": (200, {"Content-Length": str(len(CONTENT) + 5)}, CONTENT),
            "/page.tar": (200, {}, b"<html>sign in</html>"),
        }
        if self.path == "/slow.tar":
            threading.Event().wait(1.5)
        code, headers, body = answer.get(self.path, (404, {}, b"gone"))
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    options = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.handle_error = lambda *_: None
        running.socket = context.wrap_socket(
            running.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{running.server_port}", certificate
        running.shutdown()


@pytest.fixture
def attempt(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address, certificate = server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(path: str, digest: str | None = None) -> Path:
        (tmp_path / "good").write_bytes(CONTENT)
        options = {
            "name": "image_folder",
            "path": address + path,
            "mirror": None,
            "sha256": digest or sha256(tmp_path / "good"),
            "table": None,
            "image_size": None,
            "fold": None,
            "resize": "stretch",
            "store": "auto",
            "channels": "auto",
            "on_bad_image": "fail",
            "limit": None,
        }
        snapshot(Data.model_validate(options), tmp_path / "raw")
        return tmp_path / "raw/images.archive"

    return run


@pytest.mark.parametrize("path", ["/good.tar", "/moved.tar"])
def test_a_file_is_fetched_and_verified(attempt, path: str):
    assert attempt(path).read_bytes() == CONTENT


REFUSED = {
    "/missing.tar": "the server answers 404 Not Found; check data.path",
    "/downgraded.tar": "redirects to http://127.0.0.1:9/good.tar, which is not https",
    "/short.tar": f"the connection ended after {len(CONTENT)} of {len(CONTENT) + 5} bytes; run again",
    "/page.tar": "data.sha256 says",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_goes_wrong_is_said_and_leaves_nothing(attempt, path: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        attempt(path)
    assert REFUSED[path] in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert not (tmp_path / "raw").exists()


def test_another_sha256_is_refused(attempt, tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.sha256 says aaaa"):
        attempt("/good.tar", "a" * 64)
    assert not (tmp_path / "raw").exists()


def test_a_silent_server_is_not_waited_for(attempt, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"cannot be fetched \(.*timed out.*\)"):
        attempt("/slow.tar")


def test_an_unknown_certificate_is_refused(attempt, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        attempt("/good.tar")
