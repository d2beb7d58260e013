"""A small hub on the loopback interface: the endpoints that fetching a model needs, and a count of what was served.

Like the real one it answers for large files with a redirect to another host, which must not see the token.
"""

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".gguf")
TOKEN = "hf_of_somebody_with_access"


@dataclass
class Hub:
    """The repositories that are served, how, and what was asked of them."""

    repositories: dict[str, Path]
    gated: frozenset[str] = frozenset()
    cut_after: dict[str, int] = field(default_factory=dict)
    """name of a file -> bytes of it after which the connection ends, once"""
    stall_after: dict[str, int] = field(default_factory=dict)
    """name of a file -> bytes of it after which nothing more comes, once, until `go_on` is set"""
    stalled: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)
    served: dict[str, int] = field(default_factory=dict)
    """name of a file -> bytes that were sent of it"""
    starts: list[tuple[str, int]] = field(default_factory=list)
    """(name of a large file, first byte) of every transfer"""
    ignores_ranges: bool = False
    """answers for a part of a file with all of it and status 200, as some proxies do"""
    shifts_ranges: int = 0
    """answers for a part of a file with one that begins so many bytes later, and says so"""
    more_names: tuple[str, ...] = ()
    """names that the listing has beside those of files"""
    seen_elsewhere: list[str] = field(default_factory=list)
    """authorization headers that reached the other host"""
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Return what makes the library ask this hub, and no other."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub until the block ends."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.port = server.server_port
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if listing := re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(listing[1], listing[2] or "main")
        elif resolve := re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(resolve[1], resolve[2], resolve[3], with_body=with_body)
        elif elsewhere := re.fullmatch(r"/elsewhere/([^/]+/[^/]+)/(.+)", path):
            self.hub.seen_elsewhere += self.headers.get_all("Authorization") or []
            self._send_file(self.hub.repositories[elsewhere[1]] / elsewhere[2], {}, with_body=with_body)
        else:
            self._refuse(404, "EntryNotFound")

    def _list(self, repo: str, revision: str) -> None:
        if repo not in self.hub.repositories:
            self._refuse(401, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            root = self.hub.repositories[repo]
            files = [path for path in sorted(root.rglob("*")) if path.is_file()]
            siblings = [{"rfilename": path.relative_to(root).as_posix(), "size": path.stat().st_size} for path in files]
            siblings += [{"rfilename": name, "size": 1} for name in self.hub.more_names]
            body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
            self._send(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, repo: str, revision: str, name: str, *, with_body: bool) -> None:
        file = self.hub.repositories.get(repo, Path("absent")) / name
        if repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif not file.is_file() or revision not in ("main", COMMIT):
            self._refuse(404, "EntryNotFound")
        else:
            etag = f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"'
            common = {"X-Repo-Commit": COMMIT, "ETag": etag}
            if not name.endswith(LARGE):
                self._send_file(file, common, with_body=with_body)
                return
            linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(file.stat().st_size)}
            place = {"Location": f"http://localhost:{self.hub.port}/elsewhere/{repo}/{name}"}
            self._send(302, {**common, **linked, **place}, b"")

    def _send_file(self, file: Path, headers: dict[str, str], *, with_body: bool) -> None:
        data = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.hub.ignores_ranges:
            asked = None
        start, stop = (int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))) if asked else (0, len(data))
        if asked:
            start = min(start + self.hub.shifts_ranges, stop - 1)
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        headers = {**headers, "Accept-Ranges": "bytes"}
        if not with_body:
            self._send(200, {**headers, "Content-Length": str(len(data))}, b"")
            return
        if file.name.endswith(LARGE):
            self.hub.starts.append((file.name, start))
        body = data[start:stop]
        stall = self.hub.stall_after.pop(file.name, len(body))
        cut = min(stall, self.hub.cut_after.pop(file.name, len(body)))
        self.hub.served[file.name] = self.hub.served.get(file.name, 0) + len(body[:cut])
        self._send(206 if asked else 200, {**headers, "Content-Length": str(len(body))}, body[:cut])
        if cut < len(body):
            self.wfile.flush()
            if stall < len(body):
                self.hub.stalled.set()
                self.hub.go_on.wait(60)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": "refused"}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
