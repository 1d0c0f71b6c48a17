"""`make audit`, a part of `make check`: what is known against the packages of requirements.lock.

Exit code 1: a known vulnerability that audit_lock.toml does not name, an entry there that is not
found any more, or a package that could not be looked up. Where the service that knows of
vulnerabilities can't be reached, a line says so, and the exit code is 0: a machine without internet
can be worked on. pip-audit itself takes an index that has no such service for one that knows of no
vulnerability, so it is first asked of a release that is known to have some.

Other options go to pip-audit: `--vulnerability-service osv`.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KNOWN_BAD = "jinja2==2.10"  # PYSEC-2019-217, CVE-2019-10906


class AuditError(Exception):
    """The lock can't be audited; the message says why."""


@dataclass(frozen=True)
class Reviewed:
    """A vulnerability that does not apply here."""

    id: str
    package: str
    reason: str
    date: date


def read_reviewed(path: Path) -> list[Reviewed]:
    """Return what was reviewed.

    Raises:
        AuditError: an entry lacks something.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("reviewed", [])
        reviewed = [Reviewed(**entry) for entry in entries]
    except (ValueError, TypeError) as error:
        raise AuditError(f"{path}: {error}. An entry has id, package, reason and date.") from error
    for entry in reviewed:
        words = (entry.id, entry.package, entry.reason)
        if (
            not all(isinstance(word, str) and word for word in words)
            or type(entry.date) is not date
        ):
            raise AuditError(f"{path}: {entry} should have id, package, reason, and a date.")
    return reviewed


def look_up(requirements: Path, options: Sequence[str]) -> list[dict[str, Any]]:
    """Return what pip-audit says of each pinned package.

    Raises:
        AuditError: it says nothing; the message is its last line.
    """
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--disable-pip",
        "--no-deps", "--format", "json", "--progress-spinner", "off", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError) as error:
        raise AuditError((done.stderr.strip().splitlines() or ["nothing"])[-1][:300]) from error
    return found


def why_silent(options: Sequence[str]) -> str | None:
    """Return why no service answers; None where one knows of the flaws of a bad release."""
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "bad.txt"
        bad.write_text(KNOWN_BAD + "\n", encoding="utf-8")
        try:
            [said] = look_up(bad, options)
        except AuditError as error:
            return str(error)
    if said.get("vulns"):
        return None
    return said.get("skip_reason") or f"it knows of none in {KNOWN_BAD}"


def problems(
    packages: Sequence[dict[str, Any]], reviewed: Sequence[Reviewed]
) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what was reviewed, a line each."""
    wrong = [f"{each['name']}: {each['skip_reason']}" for each in packages if "skip_reason" in each]
    applied: list[str] = []
    used: set[Reviewed] = set()
    for package in packages:
        for flaw in package.get("vulns", []):
            names = {flaw["id"], *flaw.get("aliases", [])}
            own = [r for r in reviewed if r.package == package["name"] and r.id in names]
            used.update(own)
            line = f"{package['name']} {package['version']}: {', '.join(sorted(names))}"
            if own:
                applied.append(f"{line}: {own[0].reason} ({own[0].date})")
            else:
                fixed = " or ".join(flaw.get("fix_versions", [])) or "no release yet"
                wrong.append(f"{line}: fixed in {fixed}")
    wrong += [
        f"{entry.package}: {entry.id} was reviewed and is not found any more: take it out"
        for entry in reviewed if entry not in used
    ]  # fmt: skip
    return wrong, applied


def main() -> int:
    """Return the exit code."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    ask.add_argument("--reviewed", type=Path, default=ROOT / "tests/parts/audit_lock.toml")
    given, options = ask.parse_known_args()
    try:
        if importlib.util.find_spec("pip_audit") is None:
            raise AuditError("pip-audit is not installed; `make install` installs it")
        reviewed = read_reviewed(given.reviewed)
        if why := why_silent(options):
            print(f"{given.lock.name} was NOT audited: no vulnerability service answers ({why})")
            return 0
        packages = look_up(given.lock, options)
    except AuditError as error:
        print(f"{given.lock.name} was not audited: {error}")
        return 1
    wrong, applied = problems(packages, reviewed)
    for line in [*applied, *wrong]:
        print(line)
    print(
        f"{given.lock.name}: {len(packages)} packages audited, {len(wrong)} problem(s), "
        f"{len(applied)} reviewed"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
