"""A proxy on the loopback interface that behaves as badly as it is told to."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

OWN = {"connection", "transfer-encoding", "content-length", "server", "date", "keep-alive"}


class FlakyProxy(ThreadingHTTPServer):
    """Hands requests on to `target`.

    Attributes:
        errors: how many requests from now on get a 500.
        cut: how many downloads from now on end in the middle.
        silent: how many downloads from now on get no answer.
        delay: before each answer, in seconds.
        seen: methods and paths of the requests so far.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.seen: list[tuple[str, str]] = []
        self.behave()

    def behave(self) -> None:
        self.errors = self.cut = self.silent = 0
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def taken(self, name: str) -> bool:
        """Whether this request is one of those that are to go wrong."""
        with self.lock:
            left = getattr(self, name)
            setattr(self, name, max(left - 1, 0))
        return left > 0

    def handle_error(self, request, client_address) -> None:
        """The client was killed or has given up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def log_message(self, *args) -> None:
        pass

    def answer(self) -> None:
        body = self.body()
        self.server.seen.append((self.command, self.path))
        time.sleep(self.server.delay)
        if self.server.taken("errors"):
            self.reply(500, {}, b"<Error><Code>InternalError</Code></Error>")
            return
        download = self.command == "GET" and "/files/md5/" in self.path
        if download and self.server.taken("silent"):
            self.server.stopped.wait(30)
            self.close_connection = True
            return
        connection = http.client.HTTPConnection(self.server.target)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        whole = not (download and content and self.server.taken("cut"))
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in OWN}
        self.reply(answer.status, headers, content, answer.getheader("Content-Length"), whole=whole)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

    def body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            del self.headers["Transfer-Encoding"]
            return b"".join(parts)
        size = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(size) if size else None

    def reply(self, status, headers, content, length=None, *, whole=True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if whole else content[: len(content) // 2])
        self.close_connection = self.close_connection or not whole


@contextlib.contextmanager
def flaky_proxy(target: str) -> Iterator[FlakyProxy]:
    with FlakyProxy(target) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
