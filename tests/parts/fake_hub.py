"""A Hub of Hugging Face on loopback: repositories, commits, and what can go wrong with them."""

import hashlib
import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is served, and what was asked for."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)  # their files
    gated: set[str] = field(default_factory=set)
    cut_off_at: int | None = None  # bytes of a file, whatever was promised
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Answer as the Hub does to whoever downloads single files; a port of loopback's choice."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", f"made up: {code}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, *, with_body: bool) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
            hub.asked.append((self.command, path))
            parts = path.split("/")
            if len(parts) < 5 or parts[2] != "resolve":
                return self.refuse(404, "EntryNotFound")
            repository, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            if repository in hub.gated:
                return self.refuse(403, "GatedRepo")
            if repository not in hub.repositories:
                return self.refuse(404, "RepoNotFound")
            if revision not in ("main", COMMIT, COMMIT[:7]):
                return self.refuse(404, "RevisionNotFound")
            file = hub.repositories[repository].get(name)
            self.send_response(200 if file else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            if file is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            self.send_header("ETag", f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            if with_body:
                self.wfile.write(file.read_bytes()[: hub.cut_off_at])
                self.close_connection = hub.cut_off_at is not None
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
