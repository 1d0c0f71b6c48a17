"""A Hub of Hugging Face on loopback: repositories, commits, and what can go wrong with them.

It answers what huggingface_hub's client asks of the real one, with the same fields and headers:
single files, listings, and commits with their large files sent beforehand.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".onnx", ".bin")  # as a new repository's .gitattributes says


@dataclass
class Commit:
    """A state of a repository."""

    sha: str
    files: dict[str, bytes]
    message: str


@dataclass
class Hub:
    """What is served, and what was asked for."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)  # their files
    gated: set[str] = field(default_factory=set)
    cut_off_at: int | None = None  # bytes of a file, whatever was promised
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""
    tokens: set[str] = field(default_factory=set)  # that may see and write all; none: nobody asks
    readers: set[str] = field(default_factory=set)  # tokens that may see all, and write nothing
    pushed: dict[str, list[Commit]] = field(default_factory=dict)  # repositories with a history
    private: set[str] = field(default_factory=set)
    served_instead: dict[str, bytes] = field(default_factory=dict)  # of a file by its name
    listed_besides: list[dict[str, Any]] = field(default_factory=list)  # in every listing
    ignored: set[str] = field(default_factory=set)  # names that a .gitignore there leaves out
    failing: dict[str, int] = field(default_factory=dict)  # status by a part of a path
    elsewhere: str = ""  # an address that files are fetched from, as from the Hub's CDN
    sent_tokens: list[tuple[str, str]] = field(default_factory=list)  # host and token, each time
    ranges: list[str] = field(default_factory=list)  # that files were asked for by
    large: dict[str, bytes] = field(default_factory=dict)  # what arrived, by its SHA-256

    def states(self, repository: str) -> list[Commit]:
        """Return a repository's commits, the newest last; none where it is not there."""
        if repository in self.pushed:
            return self.pushed[repository]
        if repository in self.repositories:
            files = {n: path.read_bytes() for n, path in self.repositories[repository].items()}
            return [Commit(COMMIT, files, "made up")]
        return []

    def at(self, repository: str, revision: str) -> Commit | None:
        """Return the state that a revision names."""
        states = self.states(repository)
        if revision == "main":
            return states[-1]
        return next((each for each in states if each.sha.startswith(revision)), None)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Answer as the Hub does; a port of loopback's choice."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer("HEAD", b"")

        def do_GET(self) -> None:
            self.answer("GET", b"")

        def do_POST(self) -> None:
            self.answer("POST", self.body())

        def do_PUT(self) -> None:
            self.answer("PUT", self.body())

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        def send(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def tell(self, values: Any) -> None:
            self.send(200, json.dumps(values).encode(), Content_Type="application/json")

        def refuse(self, status: int, code: str, message: str = "") -> None:
            self.send(status, X_Error_Code=code, X_Error_Message=message or f"made up: {code}")

        def answer(self, method: str, body: bytes) -> None:
            quoted = urllib.parse.urlsplit(self.path).path.strip("/")
            path = urllib.parse.unquote(quoted)
            hub.asked.append((method, path))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token:
                hub.sent_tokens.append((self.headers["Host"], token))
            for part, status in hub.failing.items():
                if part in path:
                    return self.send(status, b"{}", X_Error_Message="made up")
            if hub.tokens and token and token not in hub.tokens | hub.readers:
                message = "Invalid credentials in Authorization header"
                return self.send(401, b"{}", X_Error_Message=message)
            may_write = token in hub.tokens
            if path == "api/validate-yaml":
                return self.tell({"errors": [], "warnings": []})
            if path == "api/repos/create":
                return self.create(json.loads(body), may_write)
            if path.startswith("large/"):
                hub.large[path.removeprefix("large/")] = body
                return self.send(200)
            parts = [urllib.parse.unquote(part) for part in quoted.split("/")]
            if parts[:2] == ["api", "models"] and len(parts) >= 4:
                repository, what = "/".join(parts[2:4]), parts[4:5]
                revision = parts[5] if len(parts) > 5 else "main"
            elif len(parts) >= 5 and parts[2] == "resolve":
                repository, what, revision = "/".join(parts[:2]), ["resolve"], parts[3]
            elif path.endswith(".git/info/lfs/objects/batch"):
                return self.large_ones(json.loads(body), may_write)
            else:
                return self.refuse(404, "EntryNotFound")
            may_see = bool(token) or not hub.tokens
            if repository in hub.gated and not may_write:
                return self.refuse(403, "GatedRepo")
            states = hub.states(repository)
            if not states or (repository in hub.private and not may_see):
                return self.refuse(404 if may_see else 401, "RepoNotFound")
            state = hub.at(repository, revision)
            if state is None:
                return self.refuse(404, "RevisionNotFound")
            if what == ["resolve"]:
                return self.file(state, "/".join(parts[4:]))
            if what in ([], ["revision"]):
                return self.listing(repository, state)
            if not may_write:
                return self.send(403, b"{}", X_Error_Message="no write access")
            if what == ["preupload"]:
                return self.ask_how(json.loads(body), state)
            if what == ["commit"]:
                return self.commit(repository, body)
            return self.refuse(404, "EntryNotFound")

        # ------------------------------------------------------------ reading

        def file(self, state: Commit, name: str) -> None:
            if name not in state.files:
                return self.send(404, X_Repo_Commit=state.sha, X_Error_Code="EntryNotFound")
            content = state.files[name]
            etag = f'"{_sha256(content)}"'
            if hub.elsewhere and hub.elsewhere != f"http://{self.headers['Host']}":
                return self.send(302, Location=hub.elsewhere + self.path, X_Repo_Commit=state.sha)
            content = hub.served_instead.get(name, content)
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(begin[1]) if begin else 0
            if begin:
                hub.ranges.append(begin[0])
            self.send_response(206 if begin else 200)
            self.send_header("X-Repo-Commit", state.sha)
            self.send_header("ETag", etag)
            if begin:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[start : hub.cut_off_at])
                self.close_connection = hub.cut_off_at is not None
            return None

        def listing(self, repository: str, state: Commit) -> None:
            siblings: list[dict[str, Any]] = []
            for name, content in state.files.items():
                about: dict[str, Any] = {
                    "rfilename": name, "size": len(content), "blobId": _oid(content)
                }  # fmt: skip
                if name.endswith(_LARGE):
                    about["lfs"] = {
                        "sha256": _sha256(content), "size": len(content), "pointerSize": 134
                    }  # fmt: skip
                siblings.append(about)
            self.tell(
                {
                    "id": repository, "sha": state.sha, "private": repository in hub.private,
                    "gated": False, "tags": [], "siblings": siblings + hub.listed_besides,
                }
            )  # fmt: skip

        # ------------------------------------------------------------ writing

        def create(self, wanted: dict[str, Any], may_write: bool) -> None:
            if not may_write:
                return self.send(403, b"{}", X_Error_Message="no write access")
            repository = f"{wanted['organization']}/{wanted['name']}"
            if hub.states(repository):
                return self.send(409, b"{}", X_Error_Message="You already created this model repo")
            if wanted.get("visibility") == "private":
                hub.private.add(repository)
            sha = hashlib.sha1(repository.encode()).hexdigest()
            attributes = "".join(f"*{end} filter=lfs\n" for end in _LARGE).encode()
            hub.pushed[repository] = [Commit(sha, {".gitattributes": attributes}, "initial commit")]
            return self.tell({"url": f"{hub.address}/{repository}"})

        def ask_how(self, wanted: dict[str, Any], state: Commit) -> None:
            files = []
            for each in wanted["files"]:
                name, known = each["path"], state.files.get(each["path"])
                is_large = name.endswith(_LARGE)
                oid = None if known is None else (_sha256 if is_large else _oid)(known)
                files.append(
                    {
                        "path": name, "uploadMode": "lfs" if is_large else "regular",
                        "shouldIgnore": name in hub.ignored, "oid": oid,
                    }
                )  # fmt: skip
            self.tell({"files": files})

        def large_ones(self, wanted: dict[str, Any], may_write: bool) -> None:
            if not may_write:
                return self.send(403, b"{}", X_Error_Message="no write access")
            objects: list[dict[str, Any]] = []
            for each in wanted["objects"]:
                about: dict[str, Any] = {"oid": each["oid"], "size": each["size"]}
                if each["oid"] not in hub.large:
                    about["actions"] = {"upload": {"href": f"{hub.address}/large/{each['oid']}"}}
                objects.append(about)
            return self.tell({"transfer": "basic", "objects": objects})

        def commit(self, repository: str, body: bytes) -> None:
            rows = [json.loads(line) for line in body.splitlines() if line.strip()]
            newest = hub.pushed[repository][-1]
            header = rows[0]["value"]
            if header.get("parentCommit") not in (None, newest.sha):
                return self.send(412, b"{}", X_Error_Message="A commit has happened since")
            files = dict(newest.files)
            for row in rows[1:]:
                value = row["value"]
                if row["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif row["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
                elif row["key"] == "deletedFile":
                    del files[value["path"]]
            sha = hashlib.sha1(newest.sha.encode() + body).hexdigest()
            hub.pushed[repository].append(Commit(sha, files, header["summary"]))
            return self.tell(
                {"commitUrl": f"{hub.address}/{repository}/commit/{sha}", "commitOid": sha}
            )

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


def ask_only(hub: Hub, cache: Path, monkeypatch: Any) -> None:
    """Have huggingface_hub ask this Hub alone, with the token that HF_TOKEN has at each time."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
