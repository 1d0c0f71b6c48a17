"""The audit of the lock, by the real pip-audit, against a service of vulnerabilities made here."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from audit_lock import ROOT, Reviewed, problems, read_reviewed

HASH = "0" * 64
LOCK = f"clean==1.0 \\\n    --hash=sha256:{HASH}\nleaky==2.0 \\\n    --hash=sha256:{HASH}\n"
FLAW = {
    "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1"], "summary": "leaks",
    "affected": [{"package": {"name": "leaky", "ecosystem": "PyPI"}, "ranges": [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}]}],
}  # fmt: skip
OLD = {"id": "PYSEC-2019-217", "affected": []}  # what a service knows of jinja2 2.10


@dataclass
class Service:
    """What OSV's service answers: vulnerabilities by package; it breaks down at one of them."""

    known: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"jinja2": [OLD]})
    broken_at: str = ""
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            flaws = made.known.get(name)
            body = json.dumps({"vulns": flaws} if flaws else {}).encode()
            self.send_response(500 if name == made.broken_at else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1/query"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def audit(tmp_path: Path, service: Service):
    (tmp_path / "made.lock").write_text(LOCK)

    def run(reviewed: str = "", url: str = service.url) -> tuple[int, str]:
        (tmp_path / "reviewed.toml").write_text(reviewed)
        command = [sys.executable, ROOT / "tests/parts/audit_lock.py", "--lock", "made.lock"]
        command += ["--reviewed", "reviewed.toml", "--vulnerability-service", "osv"]
        command += ["--osv-url", url or service.url, "--cache-dir", "cache"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    return run


def entry(name: str, package: str = "leaky") -> str:
    return (
        f'[[reviewed]]\nid = "{name}"\npackage = "{package}"\nreason = "not used"\n'
        "date = 2026-01-31\n"
    )


def test_a_lock_without_known_vulnerabilities_passes(audit):
    assert audit() == (0, "made.lock: 2 packages audited, 0 problem(s), 0 reviewed\n")


def test_a_vulnerability_fails_until_it_is_reviewed(audit, service):
    service.known["leaky"] = [FLAW]
    code, said = audit()
    assert code == 1
    assert "leaky 2.0: CVE-2026-1, GHSA-aaaa-bbbb-cccc: fixed in 2.1\n" in said
    for name in ("GHSA-aaaa-bbbb-cccc", "CVE-2026-1"):
        code, said = audit(entry(name))
        assert code == 0
        assert "leaky 2.0: CVE-2026-1, GHSA-aaaa-bbbb-cccc: not used (2026-01-31)\n" in said
    assert audit(entry("CVE-2026-1", "clean"))[0] == 1  # reviewed for another package
    service.known["leaky"] = []
    code, said = audit(entry("CVE-2026-1"))
    assert code == 1
    assert "leaky: CVE-2026-1 was reviewed and is not found any more: take it out\n" in said


def test_where_no_service_answers_a_line_says_so(audit, service):
    code, said = audit(url="http://127.0.0.1:9/v1/query")
    assert code == 0
    assert said.startswith("made.lock was NOT audited: no vulnerability service answers (")
    assert said.count("\n") == 1
    # A service that has an answer to all, and knows nothing, is none.
    service.known = {}
    code, said = audit()
    assert code == 0
    assert "was NOT audited: no vulnerability service answers (it knows of none in jinja2" in said


def test_a_service_that_breaks_down_on_the_way_is_no_pass(audit, service):
    service.broken_at = "leaky"
    code, said = audit()
    assert code == 1
    assert "was not audited" in said


@pytest.mark.parametrize("lacking", ["reason", "date", "package"])
def test_an_entry_that_lacks_something_is_refused(audit, lacking):
    lines = [line for line in entry("CVE-2026-1").splitlines() if not line.startswith(lacking)]
    code, said = audit("\n".join(lines))
    assert code == 1
    assert "An entry has id, package, reason and date" in said


def test_a_package_that_was_not_looked_up_is_no_pass():
    packages = [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "gone"}]
    assert problems(packages, []) == (["b: gone"], [])
    reviewed = [Reviewed("CVE-1", "a", "not used", date(2026, 1, 31))]
    assert problems([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}], reviewed) == (
        [], ["a 1: CVE-1: not used (2026-01-31)"],
    )  # fmt: skip


def test_what_is_reviewed_in_this_repository_can_be_read():
    for each in read_reviewed(ROOT / "tests/parts/audit_lock.toml"):
        assert each.reason
