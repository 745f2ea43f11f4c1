"""Rows of the faults of downloads: servers that break off, lie, stall, or send something else."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline_lib.artifacts import publish_bytes, verify
from pipeline_lib.datasets import kuzushiji_mnist
from pipeline_lib.datasets.files import fetch, https, public
from pipeline_lib.datasets.files.public import PublicFile
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import Data
from tests.local_https import serving, trust

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["data"]
NUMBERS = b"".join(number.to_bytes(2, "big") for number in range(5000))
CONTENT = NUMBERS[:257] + b"ustar" + NUMBERS[262:]  # enough of a tar for `data.path`
SIZE = len(CONTENT)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<html>sign in</html>"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


CHANGED = sha(CONTENT[:-1] + b"x")


class Handler(http.server.BaseHTTPRequestHandler):
    """One behaviour per path; `server.asked` notes every path with its Range."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        self.first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.nth = sum(path == self.path for path, _ in self.server.asked)
        getattr(self, self.path[1:].partition(".")[0])()
        self.close_connection = True

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def part(self, length: int = SIZE) -> None:
        """Announce all that was asked for and send the first `length` bytes of it."""
        if self.first >= SIZE:
            self.answer(416, b"")
            return
        rest = CONTENT[self.first :]
        headers = {"Content_Length": str(len(rest))}
        if self.first:
            headers["Content_Range"] = f"bytes {self.first}-{SIZE - 1}/{SIZE}"
        self.answer(206 if self.first else 200, rest[:length], **headers)

    def good(self) -> None:
        self.part()

    def breaks(self) -> None:
        self.part(1200)

    def drips(self) -> None:
        self.part(7)

    def breaks_once(self) -> None:
        self.part(1200 if self.nth == 1 else SIZE)

    def stalls_once(self) -> None:
        self.part(1200 if self.nth == 1 else SIZE)
        self.wfile.flush()
        if self.nth == 1:
            self.server.hold.wait(5)

    def forgets_ranges(self) -> None:
        self.first = 0
        self.part(1200 if self.nth == 1 else SIZE)

    def wrong_part(self) -> None:
        if self.nth == 2:
            self.answer(206, CONTENT[9:], Content_Range=f"bytes 9-{SIZE - 1}/{SIZE}")
        else:
            self.part(1200 if self.nth == 1 else SIZE)

    def no_such_part(self) -> None:
        if self.nth == 2:
            self.answer(416, b"")
        else:
            self.part(1200 if self.nth == 1 else SIZE)

    def busy(self) -> None:
        if self.nth < 3:
            self.answer(503 if self.nth == 1 else 429, b"later")
        else:
            self.part()

    def always_busy(self) -> None:
        self.answer(503, b"later")

    def no_length(self) -> None:
        self.answer(200, CONTENT[:1200] if self.nth == 1 else CONTENT, Content_Length="")

    def page_of_no_length(self) -> None:
        self.answer(200, PAGE, Content_Length="", Content_Type="text/html")

    def chunked(self) -> None:
        """Break off within a chunk once; no length is announced."""
        self.protocol_version = "HTTP/1.1"
        self.answer(200, Content_Length="", Transfer_Encoding="chunked")
        for start in range(0, SIZE, 1200):
            chunk = CONTENT[start : start + 1200]
            self.wfile.write(b"%x\r\n" % len(chunk))
            if self.nth == 1 and start:
                self.wfile.write(chunk[:700])
                return
            self.wfile.write(chunk + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def part_unasked(self) -> None:
        if self.nth == 1:
            self.answer(206, CONTENT[9:], Content_Range=f"bytes 9-{SIZE - 1}/{SIZE}")
        else:
            self.part()

    def gone(self) -> None:
        self.answer(404, b"gone")

    def forbidden(self) -> None:
        self.answer(403, PAGE, Content_Type="text/html")

    def page(self) -> None:
        self.answer(200, PAGE, Content_Type="text/html")

    def long(self) -> None:
        self.answer(200, CONTENT, Content_Length=str(SIZE + 5))

    def changed(self) -> None:
        self.answer(200, CONTENT[:-1] + b"x")

    def other_part(self) -> None:
        """A longer file than the pinned one, from the middle."""
        body = CONTENT[self.first :] + b"more"
        self.answer(206, body, Content_Range=f"bytes {self.first}-{SIZE + 3}/{SIZE + 4}")

    def moved(self) -> None:
        self.answer(302, Location="/breaks_once.bin")

    def downgraded(self) -> None:
        self.answer(301, Location="http://127.0.0.1:9/good.bin")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def running():
    with serving(Handler) as server:
        yield server


class Site:
    """A server on this machine, and a folder to fetch to: a pinned file, or the user's own `data.path`."""

    def __init__(self, server: http.server.HTTPServer, root: Path, *, own: bool) -> None:
        self.server, self.root, self.own, self.pauses = server, root, own, []
        self.address = f"https://127.0.0.1:{server.server_port}"
        self.raw = root / "data/raw"
        server.asked, server.hold = [], threading.Event()

    @property
    def asked(self) -> list[tuple[str, str | None]]:
        return self.server.asked

    def file(self, name: str, *mirrors: str) -> PublicFile:
        folders = tuple(f"{self.address}/{mirror}" for mirror in mirrors)
        return PublicFile(f"{self.address}/{name}.bin", SIZE, DIGEST, folders)

    def partial(self, name: str) -> Path:
        return self.root / f"data/partial/{DIGEST[:16]}.{name}.bin"

    def fetch(self, name: str) -> None:
        if self.own:
            url = f"{self.address}/{name}.bin"
            chosen = options(name="image_folder", path=url, sha256=DIGEST)
            fetch.take(chosen, self.raw / f"{name}.bin")
        else:
            public.download([self.file(name)], options(), self.raw)

    def fetched(self, name: str) -> None:
        """Fetch, and see the file whole, with its sidecar, and nothing else."""
        self.fetch(name)
        assert (self.raw / f"{name}.bin").read_bytes() == CONTENT
        verify(self.raw / f"{name}.bin")
        assert not (self.root / "data/partial").exists()

    def refused(self, name: str) -> str:
        """Fail to fetch, in one line that names the address and says what to do; leave no file."""
        with pytest.raises(UserError) as caught:
            self.fetch(name)
        message = str(caught.value)
        assert message.startswith(f"{self.address}/{name}.bin: ")
        assert message.endswith(
            "; check data.path and data.sha256"
            if self.own
            else f"; data.mirror may name a folder or https URL that holds {name}.bin"
        )
        assert "\n" not in message
        assert list(self.raw.iterdir()) == []
        return message


def options(**changes: object) -> Data:
    return Data.model_validate(PARAMS | {"name": "kuzushiji_mnist"} | changes)


@pytest.fixture(params=["public", "own"])
def site(running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request):
    trust(monkeypatch)
    monkeypatch.setattr(https, "BLOCK", 1000)
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", 0.5)
    made = Site(running, tmp_path, own=getattr(request, "param", "public") == "own")
    monkeypatch.setattr(time, "sleep", made.pauses.append)
    yield made
    running.hold.set()


def test_a_file_is_fetched_once(site: Site):
    site.fetched("good")
    assert site.asked == [("/good.bin", None)]


RESUMED = ["breaks_once", "stalls_once"]


@pytest.mark.parametrize("name", RESUMED)
def test_what_broke_off_is_continued(site: Site, name: str):
    site.fetched(name)
    assert site.asked == [(f"/{name}.bin", None), (f"/{name}.bin", "bytes=1200-")]


def test_a_connection_that_breaks_again_and_again_gets_there_in_the_end(site: Site):
    """Every try brings more than a block, so that none of them counts as one of the three."""
    site.fetched("breaks")
    assert [wanted for _, wanted in site.asked] == [
        None,
        *(f"bytes={start}-" for start in range(1200, SIZE, 1200)),
    ]
    assert set(site.pauses) == {https.PAUSE_SECONDS[0]}


RESTARTED = {
    "forgets_ranges": [None, "bytes=1200-"],
    "wrong_part": [None, "bytes=1200-", None],
    "no_such_part": [None, "bytes=1200-", None],
    "no_length": [None, "bytes=1200-"],
    "chunked": [None, "bytes=1900-"],
    "part_unasked": [None, None],
}


@pytest.mark.parametrize("name", RESTARTED)
def test_a_server_without_parts_is_asked_for_the_whole(site: Site, name: str):
    site.fetched(name)
    assert [wanted for _, wanted in site.asked] == RESTARTED[name]


def test_a_busy_server_is_asked_again_after_growing_pauses(site: Site):
    site.fetched("busy")
    assert len(site.asked) == 3
    assert site.pauses == list(https.PAUSE_SECONDS)
    assert site.pauses == sorted(site.pauses)


def test_a_redirect_to_https_is_followed_for_parts_too(site: Site):
    site.fetched("moved")
    assert site.asked[2:] == [("/moved.bin", "bytes=1200-"), ("/breaks_once.bin", "bytes=1200-")]


def test_three_tries_without_progress_are_enough(site: Site):
    message = site.refused("drips")
    assert f"cannot be fetched (the connection ended after 21 of {SIZE} bytes; 3 tries)" in message
    of = "" if site.own else f" of {SIZE}"
    assert f"check the network and run again, 21{of} bytes are kept; " in message
    assert len(site.asked) == 3
    assert site.partial("drips").read_bytes() == CONTENT[:21]


def test_the_next_run_goes_on_where_the_last_one_stopped(site: Site):
    site.refused("drips")
    site.partial("drips").rename(site.partial("good"))
    site.asked.clear()
    site.fetched("good")
    assert site.asked == [("/good.bin", "bytes=21-")]


def test_a_run_stopped_at_the_last_byte_asks_for_nothing(site: Site):
    site.partial("good").parent.mkdir(parents=True)
    site.partial("good").write_bytes(CONTENT)
    site.fetched("good")
    # How long the user's own file is, nobody has said: the server answers that there is no more.
    assert site.asked == ([("/good.bin", f"bytes={SIZE}-")] if site.own else [])


@pytest.mark.parametrize("length", [100, SIZE, SIZE + 100])
def test_a_rotten_part_is_thrown_away(site: Site, length: int):
    site.partial("good").parent.mkdir(parents=True)
    site.partial("good").write_bytes(b"x" * length)
    site.fetched("good")
    assert site.asked[-1] == ("/good.bin", None)


def test_parts_of_other_files_are_kept(site: Site):
    other = site.partial("other")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"part")
    site.fetch("good")
    assert list(other.parent.iterdir()) == [other]


FINAL = {
    "gone": "the server answers 404 Not Found",
    "forbidden": "the server answers 403 Forbidden",
    "page": f"the server has {len(PAGE)} bytes (text/html), expected {SIZE}: another file",
    "changed": f"sha256 is {CHANGED}, expected {DIGEST}: another file",
}
OWN_FINAL = FINAL | {"page": f"sha256 is {sha(PAGE)}, expected {DIGEST}: a web page"}


@pytest.mark.parametrize("name", FINAL)
def test_what_another_try_would_not_change_is_refused_at_once(site: Site, name: str):
    message = site.refused(name)
    assert (OWN_FINAL if site.own else FINAL)[name] in message
    assert len(site.asked) == 1
    assert not site.partial(name).parent.exists()


def test_a_server_that_announces_more_than_it_has_is_refused(site: Site):
    message = site.refused("long")
    if site.own:
        assert (
            f"cannot be fetched (the connection ended after {SIZE} of {SIZE + 5} bytes" in message
        )
    else:
        assert f"the server has {SIZE + 5} bytes (no type), expected {SIZE}: another" in message


def test_a_page_without_a_length_is_recognised_in_the_end(site: Site):
    page = f"sha256 is {sha(PAGE)}, expected {DIGEST}: a web page; 3 tries"
    ended = f"the connection ended after {len(PAGE)} of {SIZE} bytes; 3 tries"
    assert (page if site.own else ended) in site.refused("page_of_no_length")


def test_a_part_of_a_longer_file_is_refused(site: Site):
    site.partial("other_part").parent.mkdir(parents=True)
    site.partial("other_part").write_bytes(CONTENT[:100])
    message = site.refused("other_part")
    assert ("another file" if site.own else f"the server has {SIZE + 4} bytes") in message
    assert len(site.asked) == (2 if site.own else 1)


def test_a_redirect_to_plain_http_is_refused(site: Site):
    assert "redirects to http://127.0.0.1:9/good.bin, which is not https" in site.refused(
        "downgraded"
    )
    assert len(site.asked) == 1


def test_a_server_that_stays_busy_is_named(site: Site):
    assert "cannot be fetched (the server answers 503 Service Unavailable; 3 tries)" in (
        site.refused("always_busy")
    )


def test_no_server_at_all_is_said(site: Site):
    site.address = "https://127.0.0.1:1"
    assert "Connection refused; 3 tries); check the network" in site.refused("good").replace(
        "]", ""
    )


def test_an_unknown_certificate_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "CERTIFICATE_VERIFY_FAILED" in site.refused("good")


def test_a_folder_that_cannot_be_written_is_said(site: Site):
    site.raw.mkdir(parents=True)
    (site.root / "data/partial").write_bytes(b"a file")
    with pytest.raises(UserError, match=r"good.bin: cannot be written \(File exists\)"):
        site.fetch("good")


publisher_only = pytest.mark.parametrize("site", ["public"], indirect=True)
MIRRORED = ["gone", "page", "changed", "downgraded", "always_busy", "drips"]


@publisher_only
@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirror_is_asked_after_the_publisher(site: Site, name: str, capsys):
    """The path is that of the publisher's file, the behaviour that of the first word in it."""
    public.download([site.file(name, "good.at/mirror")], options(), site.raw)
    assert (site.raw / f"{name}.bin").read_bytes() == CONTENT
    held = "bytes=21-" if name == "drips" else None
    assert site.asked[-1] == (f"/good.at/mirror/{name}.bin", held)
    assert f"; asking {site.address}/good.at/mirror/{name}.bin" in capsys.readouterr().out
    assert not (site.root / "data/partial").exists()


@publisher_only
def test_a_mirror_is_not_asked_where_the_publisher_answers(site: Site):
    public.download([site.file("breaks_once", "good.at")], options(), site.raw)
    assert {path for path, _ in site.asked} == {"/breaks_once.bin"}


@publisher_only
def test_every_address_that_was_tried_is_named(site: Site):
    with pytest.raises(UserError) as caught:
        public.download([site.file("gone", "changed.at", "always_busy.at")], options(), site.raw)
    at = site.address
    assert str(caught.value) == (
        f"{at}/gone.bin: the server answers 404 Not Found; "
        f"{at}/changed.at/gone.bin: sha256 is {CHANGED}, expected {DIGEST}: another file; "
        f"{at}/always_busy.at/gone.bin: cannot be fetched "
        f"(the server answers 503 Service Unavailable; 3 tries); check the network and run again; "
        f"data.mirror may name a folder or https URL that holds gone.bin"
    )
    assert list(site.raw.iterdir()) == []


@publisher_only
def test_what_a_wrong_server_sent_does_not_spoil_the_next(site: Site):
    site.partial("gone").parent.mkdir(parents=True)
    site.partial("gone").write_bytes(b"x" * 100)
    public.download([site.file("gone", "good.at")], options(), site.raw)
    assert [wanted for path, wanted in site.asked if "good" in path] == ["bytes=100-", None]
    assert (site.raw / "gone.bin").read_bytes() == CONTENT


@publisher_only
def test_a_chosen_mirror_is_asked_alone(site: Site):
    file = PublicFile(f"{site.address}/good.bin", SIZE, DIGEST, (f"{site.address}/good.at",))
    with pytest.raises(UserError, match=r"gone.at/good.bin: the server answers 404"):
        public.download([file], options(mirror=f"{site.address}/gone.at/"), site.raw)
    assert [path for path, _ in site.asked] == ["/gone.at/good.bin"]


def pin(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    files = [PublicFile(f"https://publisher.invalid/{name}", SIZE, DIGEST) for name in names]
    monkeypatch.setattr(kuzushiji_mnist, "download", partial(public.download, files))


@publisher_only
def test_a_mirror_by_https_is_asked_instead_of_the_publisher(site: Site, monkeypatch):
    pin(monkeypatch, "good.bin", "breaks_once.bin")
    snapshot(options(mirror=f"{site.address}/"), site.raw)
    assert [path for path, _ in site.asked] == ["/good.bin", *["/breaks_once.bin"] * 2]
    assert (site.raw / "breaks_once.bin").read_bytes() == CONTENT


@publisher_only
def test_a_failed_snapshot_leaves_the_old_one(site: Site, monkeypatch):
    publish_bytes(site.raw / "old", b"old")
    pin(monkeypatch, "good.bin", "gone.bin")
    with pytest.raises(UserError, match=r"/gone.bin: the server answers 404"):
        snapshot(options(mirror=site.address), site.raw)
    assert {path.name for path in site.raw.iterdir()} == {"old", "old.sha256"}
    assert not list(site.root.glob("data/.tmp-*"))


FOLDERS = {
    "missing": (None, "not there (looked for /"),
    "short": (CONTENT[:-1], f"{SIZE - 1} bytes, expected {SIZE}: another file or a part"),
    "changed": (CONTENT[:-1] + b"x", f"sha256 is {CHANGED}, expected {DIGEST}: another file"),
    "page": (PAGE, f"{len(PAGE)} bytes, expected {SIZE}"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_mirror_folder_is_checked_all_the_same(tmp_path: Path, monkeypatch, case: str):
    content, problem = FOLDERS[case]
    pin(monkeypatch, "a.gz")
    (tmp_path / "mirror").mkdir()
    if content is not None:
        (tmp_path / "mirror/a.gz").write_bytes(content)
    with pytest.raises(UserError) as caught:
        snapshot(options(mirror=f"{tmp_path}/mirror/"), tmp_path / "raw")
    assert str(caught.value).startswith(f"{tmp_path}/mirror/a.gz: {problem}")
    assert not (tmp_path / "raw").exists()


def test_a_relative_mirror_starts_at_the_repository_that_dvc_names(tmp_path: Path, monkeypatch):
    pin(monkeypatch, "a.gz")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.gz").write_bytes(CONTENT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    snapshot(options(mirror="mirror"), tmp_path / "raw")
    said = f"(looked for {tmp_path}/gone/a.gz); data.mirror is to hold a.gz, which is from "
    with pytest.raises(UserError, match=re.escape(said)):
        snapshot(options(mirror="gone"), tmp_path / "other")
    assert (tmp_path / "raw/a.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("mirror", ["http://host/x", "ftp://host/x", "file:///x"])
def test_a_mirror_by_another_protocol_is_refused(mirror: str):
    with pytest.raises(ValidationError, match=r"data\.mirror: a folder or an https URL"):
        options(mirror=mirror)
