"""Rows 24 and 25 of the faults, as a user meets them: servers that fail, and archives that mean harm."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.faults.archives import special, tar, zipped
from tests.faults.conftest import png
from tests.local_https import serving, trust

ROOT = Path(__file__).resolve().parents[2]
IMAGES = [(f"{name}/{number}.png", png(number)) for name in ("cat", "dog") for number in range(40)]
GOOD = tar(*IMAGES)
DIGEST = hashlib.sha256(GOOD).hexdigest()
PAGE = b"<html>please sign in</html>"
# As a user waits, but for shorter times: 30 s for an answer, then 1 s and 5 s before the next try.
HURRY = "https.TIMEOUT_SECONDS, https.PAUSE_SECONDS, https.BLOCK = 0.3, (0, 0), 1000"
FEW = "archives.MAX_MEMBERS = 20"


class Handler(http.server.BaseHTTPRequestHandler):
    """The first word of the path says what happens."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        getattr(self, self.path[1:].partition(".")[0])(start)
        self.close_connection = True

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self, start: int) -> None:
        self.part(start, len(GOOD))

    def part(self, start: int, length: int) -> None:
        rest = GOOD[start:]
        told = {"Content_Range": f"bytes {start}-{len(GOOD) - 1}/{len(GOOD)}"} if start else {}
        self.answer(206 if start else 200, rest[:length], Content_Length=str(len(rest)), **told)

    def missing(self, _: int) -> None:
        self.answer(404, b"gone")

    def forbidden(self, _: int) -> None:
        self.answer(403, PAGE, Content_Type="text/html")

    def page(self, _: int) -> None:
        self.answer(200, PAGE, Content_Type="text/html")

    def changed(self, _: int) -> None:
        self.answer(200, GOOD[:-1] + b"x")

    def downgraded(self, _: int) -> None:
        self.answer(302, b"", Location="http://127.0.0.1:9/good.tar")

    def busy(self, _: int) -> None:
        self.answer(503, b"later")

    def silent(self, _: int) -> None:
        threading.Event().wait(1)

    def short(self, start: int) -> None:
        self.part(start, 700)

    def breaking(self, start: int) -> None:
        self.part(start, 30_000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    with serving(Handler) as running:
        yield running


@pytest.fixture
def ingested(workspace, server, monkeypatch):
    """A workspace that already holds the tables of an earlier, good run; and it trusts the server."""
    trust(monkeypatch)
    server.asked = []
    workspace.two_classes()
    workspace.run("configure", "download", "ingest")
    return workspace


def use_url(workspace, server, name: str) -> str:
    address = f"https://127.0.0.1:{server.server_port}/{name}.tar"
    workspace.set(data={"path": address, "sha256": DIGEST})
    return address


def run(workspace, stage: str, change: str) -> subprocess.CompletedProcess[str]:
    """Run a stage in a process of its own, with limits and waits that suit a test."""
    (workspace.root / "params.yaml").write_text(json.dumps(workspace.params))
    code = f"""
from pipeline_lib.datasets.files import archives, https
{change}
from stages.cli import run
from stages.{stage} import main
run(main)
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=workspace.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


FINAL = {
    "missing": "the server answers 404 Not Found",
    "forbidden": "the server answers 403 Forbidden",
    "page": f"expected {DIGEST}: a web page",
    "changed": f"expected {DIGEST}: another file",
    "downgraded": "redirects to http://127.0.0.1:9/good.tar, which is not https",
}


@pytest.mark.parametrize("name", FINAL)
def test_row_24_what_stays_wrong_is_said_at_once(ingested, server, name: str):
    address = use_url(ingested, server, name)
    message = ingested.refused_as_a_user("download")
    assert message.startswith(f"{address}: ")
    assert message.endswith(f"{FINAL[name]}; check data.path and data.sha256")
    assert "\n" not in message
    assert server.asked == [None]


PASSING = {
    "busy": "the server answers 503 Service Unavailable; 3 tries",
    "silent": "The read operation timed out; 3 tries",
    "short": f"the connection ended after 2100 of {len(GOOD)} bytes; 3 tries",
}


@pytest.mark.parametrize("name", PASSING)
def test_row_24_what_may_pass_is_tried_again_and_then_said(ingested, server, name: str):
    address = use_url(ingested, server, name)
    before = ingested.files()
    done = run(ingested, "download", HURRY)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stderr.startswith(
        f"{address}: cannot be fetched ({PASSING[name]}); check the network"
    )
    assert len(server.asked) == 3
    left = {file: content for file, content in ingested.files().items() if "/partial/" not in file}
    assert left == before
    assert (ingested.root / "data/partial").exists() == (name == "short")


def test_row_24_a_connection_that_breaks_is_continued_in_the_next_run_too(ingested, server):
    use_url(ingested, server, "short")
    assert run(ingested, "download", HURRY).returncode == 1
    (kept,) = (ingested.root / "data/partial").iterdir()
    kept.rename(kept.with_name(kept.name.replace("short", "breaking")))
    server.asked.clear()
    use_url(ingested, server, "breaking")
    done = run(ingested, "download", HURRY)
    assert done.returncode == 0, done.stderr
    assert server.asked == [f"bytes={start}-" for start in range(2100, len(GOOD), 30_000)]
    assert (ingested.root / "data/raw/images.archive").read_bytes() == GOOD
    assert not (ingested.root / "data/partial").exists()
    ingested.run("ingest")
    assert len(ingested.read("labels.parquet")) == len(IMAGES)


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(3):
            archive.writestr(f"cat/{number}.png", bytes(100 << 20))
    return file.getvalue()


HARMFUL = {
    "a path outside": lambda: tar(*IMAGES, ("../evil.png", b"x")),
    "an absolute path": lambda: zipped(*IMAGES, ("/cat/evil.png", b"x")),
    "a symlink": lambda: tar(
        *IMAGES, (special("cat/evil.png", tarfile.SYMTYPE, "/etc/passwd"), b"")
    ),
    "a hardlink": lambda: tar(
        *IMAGES, (special("cat/evil.png", tarfile.LNKTYPE, "cat/0.png"), b"")
    ),
    "a FIFO": lambda: tar(*IMAGES, (special("cat/evil.png", tarfile.FIFOTYPE), b"")),
    "a zip bomb": zip_bomb,
    "a gzip bomb": lambda: gzip.compress(bytes(257 << 20), 1),
}
ANSWERS = {
    "a path outside": "'../evil.png': the path leads out of the archive",
    "an absolute path": "'/cat/evil.png': the path leads out of the archive",
    "a symlink": "cat/evil.png: not a plain file (a link or a device)",
    "a hardlink": "cat/evil.png: not a plain file (a link or a device)",
    "a FIFO": "cat/evil.png: not a plain file (a link or a device)",
    "a zip bomb": "so it may be a decompression bomb",
    "a gzip bomb": "so it may be a decompression bomb",
}


@pytest.mark.parametrize("case", HARMFUL)
def test_row_25_an_archive_that_means_harm_is_refused(ingested, case: str):
    (ingested.root / "photos.bin").write_bytes(HARMFUL[case]())
    ingested.set(data={"path": "photos.bin"})
    ingested.run("download")
    message = ingested.refused_as_a_user("ingest")
    assert message.startswith("photos.bin: ")
    assert ANSWERS[case] in message
    assert "\n" not in message
    assert not list(ingested.root.rglob("evil*"))


def test_row_25_too_many_members_are_refused(ingested):
    (ingested.root / "photos.tar").write_bytes(GOOD)
    ingested.set(data={"path": "photos.tar"})
    ingested.run("download")
    before = ingested.files()
    done = run(ingested, "ingest", FEW)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "photos.tar: cat/20.png: one file more than the limit of 20" in done.stderr
    assert ingested.files() == before


def million_members() -> bytes:
    """The headers of a tar of 1,000,000 empty files, differing in their number and its checksum."""
    header = tarfile.TarInfo("cat/0000000.txt").tobuf(tarfile.USTAR_FORMAT)
    headers = np.tile(np.frombuffer(header, np.uint8), (1_000_000, 1))
    digits = np.arange(1_000_000)[:, None] // 10 ** np.arange(6, -1, -1) % 10
    headers[:, 4:11] += digits.astype(np.uint8)
    checksums = int(header[148:154], 8) + digits.sum(1)
    octal = checksums[:, None] // 8 ** np.arange(5, -1, -1) % 8
    headers[:, 148:154] = octal + ord("0")
    return headers.tobytes() + bytes(1024)


@pytest.mark.slow
def test_row_25_a_million_members_are_read_and_refused(ingested):
    (ingested.root / "photos.tar").write_bytes(million_members())
    ingested.set(data={"path": "photos.tar"})
    ingested.run("download")
    assert ingested.refused_as_a_user("ingest").startswith("photos.tar: holds no image")
