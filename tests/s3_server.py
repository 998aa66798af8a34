"""A real S3 server on this machine, moto's, that can be told to refuse requests and to cut connections."""

import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "images"
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"


@dataclass
class Faults:
    """Which downloads go wrong; every n-th, so that a test does not depend on chance.

    Attributes:
        refuse_every: Every n-th download is answered by 503; 0 for none.
        cut_every: The connection of every n-th download is cut after half of its bytes; 0 for none.
        refuses_writes: Whether other requests are refused and cut as well.
        ignored_header: WSGI's name of a header that requests are answered without, such as a condition's.
        delay_s: How long every request waits.
        refuses_with: S3's code with which all requests are refused, such as ExpiredToken.
        served: Downloads by status or `cut`.
    """

    refuse_every: int = 0
    cut_every: int = 0
    refuses_writes: bool = False
    ignored_header: str = ""
    delay_s: float = 0.0
    refuses_with: str = ""
    served: Counter = field(default_factory=Counter)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self):
        """Let everything go well from now on."""
        self.refuse_every = self.cut_every = self._count = 0
        self.refuses_writes, self.ignored_header = False, ""
        self.delay_s, self.refuses_with = 0.0, ""
        self.served.clear()

    def next_fault(self):
        """Return what happens to the next download: `503`, `cut` or nothing."""
        with self._lock:
            self._count += 1
            if self.refuse_every and self._count % self.refuse_every == 0:
                return "503"
            return "cut" if self.cut_every and self._count % self.cut_every == 0 else ""


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    faults: Faults
    listener: "_Listener"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Listen no more until the block ends; what is stored stays."""
        self.listener.stop()
        try:
            yield
        finally:
            self.listener.start()

    def client(self):
        """Return a client of its own for a test to put objects with."""
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def upload(self, root: Path, prefix: str) -> str:
        """Put all files below a folder, or one file, under a prefix; returns the location."""
        client = self.client()
        files = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
        for path in files:
            name = path.name if root.is_file() else path.relative_to(root).as_posix()
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class _Listener:
    """Serves an application on a port of this machine, a free one at first."""

    def __init__(self, app):
        self._app = app
        self.port = 0

    def start(self):
        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True, request_handler=_Quiet)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Faulty:
    """The application with faults put before it."""

    def __init__(self, app, faults):
        self._app = app
        self._faults = faults

    def __call__(self, environ, start_response):
        path, is_read = environ["PATH_INFO"].strip("/"), environ["REQUEST_METHOD"] == "GET"
        environ.pop(self._faults.ignored_header, None)
        time.sleep(self._faults.delay_s)
        if code := self._faults.refuses_with:
            error = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Told to.</Message></Error>"
            return _refuse(environ, start_response, "403 Forbidden", error.encode())
        if "/" not in path or not (is_read or self._faults.refuses_writes):
            return self._app(environ, start_response)
        fault = self._faults.next_fault()
        self._faults.served[fault or "whole"] += 1
        if fault == "503":
            return _refuse(environ, start_response, "503 Slow Down", SLOW_DOWN)
        body = self._app(environ, start_response)
        return _cut(body, environ["werkzeug.socket"]) if fault == "cut" else body


def _refuse(environ, start_response, status, body):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(status, [("Content-Type", "application/xml")])
    return [body]


def _cut(body, connection):
    content = b"".join(body)
    yield content[: len(content) // 2]
    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def running() -> Iterator[Server]:
    """Serve one empty bucket on a free port of this machine; credentials are in the environment meanwhile."""
    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    faults = Faults()
    listener = _Listener(_Faulty(DomainDispatcherApplication(create_backend_app), faults))
    with mock.patch.dict(os.environ, credentials):
        listener.start()
        server = Server(f"http://127.0.0.1:{listener.port}", faults, listener)
        server.client().create_bucket(Bucket=BUCKET)
        try:
            yield server
        finally:
            listener.stop()


if __name__ == "__main__":
    # For benchmarks: a server in a process of its own, until it is ended; its address is the first line.
    with running() as lasting:
        sys.stdout.write(f"{lasting.url}\n")
        sys.stdout.flush()
        signal.pause()
