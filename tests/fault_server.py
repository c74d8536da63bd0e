"""A local HTTP server that goes wrong in every way a download can: the first part of an address says how.

``with FaultServer(body) as server: server.url("cut")`` is a mirror whose files are all ``body``. Nothing waits forever:
what stalls stops when the server does.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FaultServer:
    """Serves ``body`` on 127.0.0.1 and remembers each request as (fault, first byte asked for, bytes of body sent)."""

    def __init__(self, body: bytes):
        self.body, self.log = body, []
        self.ended = threading.Event()
        self.both = threading.Barrier(2)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self, self.path.split("/")[1])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.both.abort()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(timeout=10)

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{fault}/"

    def answer(self, handler, fault):
        asked = int(re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-"))[1])
        seen = sum(name == fault for name, *_ in self.log)
        self.log.append([fault, asked, 0])
        handler.close_connection = True
        name, _, when = fault.partition("-")
        if when == "once" and seen:
            name = "good"
        getattr(self, name)(handler, asked, self.log[-1])

    def head(self, handler, status, **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()

    def send(self, handler, entry, data):
        try:
            handler.wfile.write(data)
            handler.wfile.flush()
            entry[2] += len(data)
        except OSError:  # the other side has gone
            pass

    def good(self, handler, asked, entry, body=None, until=None):
        """The whole file, or from the byte asked for; ``until`` cuts the connection at that byte."""
        body = self.body if body is None else body
        size = len(body)
        if asked >= size:
            return self.head(handler, 416, Content_Length=0)
        headers = {"Content_Range": f"bytes {asked}-{size - 1}/{size}"} if asked else {}
        self.head(handler, 206 if asked else 200, Content_Length=size - asked, **headers)
        self.send(handler, entry, body[asked:until])

    def plain(self, handler, asked, entry):
        self.good(handler, 0, entry)  # does not know ranges

    def zipped(self, handler, asked, entry):
        """Compresses on the way, as servers do with text, unless it is told not to."""
        if "gzip" not in handler.headers.get("Accept-Encoding", ""):
            return self.good(handler, asked, entry)
        data = gzip.compress(self.body)
        self.head(handler, 200, Content_Length=len(data), Content_Encoding="gzip")
        self.send(handler, entry, data)

    def cut(self, handler, asked, entry):
        """Each answer ends a quarter of the file later than the one before, without a word."""
        self.good(handler, asked, entry, until=asked + len(self.body) // 4)

    def short(self, handler, asked, entry):
        self.head(handler, 200)  # no length: the client cannot tell
        self.send(handler, entry, self.body[: len(self.body) // 2])

    def endless(self, handler, asked, entry):
        self.head(handler, 200)
        for _ in range(200):
            self.send(handler, entry, self.body)

    def flipped(self, handler, asked, entry, at=-1000, until=None):
        wrong = bytearray(self.body)
        wrong[at] ^= 4
        self.good(handler, asked, entry, bytes(wrong), until)

    def flippedcut(self, handler, asked, entry):
        self.flipped(handler, asked, entry, at=1000, until=len(self.body) // 2)

    def elsewhere(self, handler, asked, entry):
        """A range that is not the one asked for, of the right length."""
        self.good(handler, asked, entry, self.body[asked:] + self.body[:asked])

    def html(self, handler, asked, entry):
        page = b"<html><body>Please log in to the network.</body></html>"
        self.head(handler, 200, Content_Type="text/html", Content_Length=len(page))
        self.send(handler, entry, page)

    def htmlchunked(self, handler, asked, entry):
        self.head(handler, 200, Content_Type="text/html")
        self.send(handler, entry, b"<html><body>Please log in to the network.</body></html>")

    def missing(self, handler, asked, entry):
        self.head(handler, 404, Content_Length=0)

    def busy(self, handler, asked, entry):
        self.head(handler, 503, Content_Length=0)

    def norange(self, handler, asked, entry):
        self.head(handler, 416 if asked else 503, Content_Length=0)

    def silent(self, handler, asked, entry):
        self.ended.wait(20)

    def stalled(self, handler, asked, entry):
        self.good(handler, asked, entry, until=(asked + len(self.body)) // 2)
        self.ended.wait(20)

    def reset(self, handler, asked, entry):
        pass  # the connection closes without an answer

    def together(self, handler, asked, entry):
        """Two requests are answered only once both are there, and slowly, so that both write at the same time."""
        self.both.wait(20)
        self.head(handler, 206 if asked else 200, Content_Length=len(self.body) - asked)
        for start in range(asked, len(self.body), 5000):
            self.send(handler, entry, self.body[start : start + 5000])
            self.ended.wait(0.02)


def contents(folder):
    """Return the files below a folder, name -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused():
    """Return an address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@contextlib.contextmanager
def read_only(folder):
    """Take away the right to write to a folder; the superuser, who keeps it, becomes nobody for as long."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (folder / "probe").touch()  # it works
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


PROGRAM = """
import json, signal, sys
import pooch
from genai_course.data import _fetch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with interrupts ignored
cache, mirrors, size, sha256 = json.loads(sys.argv[1])
pooch.os_cache = lambda _: cache
_fetch.REGISTRY["names"] = _fetch.Source("names", "none", mirrors, {"names.txt": (size, sha256)})
print(_fetch.fetch("names")["names.txt"])
"""


def start(cache, body, *mirrors):
    """Start a process that fetches the file, as the data set "names", into a cache folder."""
    values = json.dumps([str(cache), mirrors, len(body), hashlib.sha256(body).hexdigest()])
    environment = {name: value for name, value in os.environ.items() if name != "GENAI_COURSE_DATA"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, values], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
