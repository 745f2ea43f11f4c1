"""Fetching over https from a server on this machine, with a certificate made for the test."""

from __future__ import annotations

import hashlib
import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from pipeline_lib.datasets.files import https
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import Data
from tests.local_https import serving, trust

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
            threading.Event().wait(0.5)
        code, headers, body = answer.get(self.path, (404, {}, b"gone"))
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address():
    with serving(Handler) as server:
        yield f"https://127.0.0.1:{server.server_port}"


@pytest.fixture
def attempt(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trust(monkeypatch)
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(https, "PAUSE_SECONDS", (0.0, 0.0))

    def run(path: str, digest: str | None = None) -> Path:
        options = {
            "name": "image_folder",
            "path": address + path,
            "mirror": None,
            "sha256": digest or hashlib.sha256(CONTENT).hexdigest(),
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
    "/missing.tar": "the server answers 404 Not Found; check data.path and data.sha256",
    "/downgraded.tar": "redirects to http://127.0.0.1:9/good.tar, which is not https; check",
    "/short.tar": f"the connection ended after {len(CONTENT)} of {len(CONTENT) + 5} bytes; 3 tries",
    "/page.tar": ": a web page; check data.path and data.sha256",
    "/slow.tar": "timed out",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_goes_wrong_is_said_and_leaves_no_snapshot(attempt, path: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        attempt(path)
    assert REFUSED[path] in str(caught.value)
    assert str(caught.value).startswith("https://127.0.0.1")
    assert not (tmp_path / "raw").exists()


def test_a_fetch_goes_on_where_the_run_before_it_stopped(attempt, tmp_path: Path):
    with pytest.raises(UserError, match=f"run again, {len(CONTENT)} bytes are kept"):
        attempt("/short.tar")
    (kept,) = (tmp_path / "partial").iterdir()
    assert kept.read_bytes() == CONTENT
    kept.rename(kept.with_name(kept.name.replace("short", "good")))
    assert attempt("/good.tar").read_bytes() == CONTENT
    assert not (tmp_path / "partial").exists()


def test_another_sha256_is_refused(attempt, tmp_path: Path):
    with pytest.raises(UserError, match=r"expected aaaa.*: another file; check data.path"):
        attempt("/good.tar", "a" * 64)
    assert not (tmp_path / "raw").exists()


def test_what_is_no_archive_is_refused_although_its_sha256_is_right(attempt, tmp_path: Path):
    digest = hashlib.sha256(b"<html>sign in</html>").hexdigest()
    with pytest.raises(UserError, match="zip archive but a web page"):
        attempt("/page.tar", digest)
    assert not (tmp_path / "raw").exists()


def test_an_unknown_certificate_is_refused(attempt, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        attempt("/good.tar")
