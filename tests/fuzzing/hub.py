"""A hub on the loopback interface that answers every question with the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_ANSWER = [b"{}"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_ANSWER[0])))
        self.end_headers()
        self.wfile.write(_ANSWER[0])

    def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002
        pass


@cache
def endpoint() -> str:
    """Start the server, once a process, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def serving(answer: bytes) -> Iterator[None]:
    """Let the hub answer so; the library asks this hub because the worker set HF_ENDPOINT before its import."""
    _ANSWER[0] = answer
    yield
