"""Where a run comes from: its commit, its data, its checkout."""

import hashlib
import re
import subprocess
from pathlib import Path


def main_checkout(root: Path) -> Path:
    """Return the checkout that lasts: DVC runs experiments in copies that it deletes afterwards.

    >>> main_checkout(Path("/home/ann/unmask/.dvc/tmp/exps/standalone/tmp1")).as_posix()
    '/home/ann/unmask'
    """
    before, found, _ = root.resolve().as_posix().partition("/.dvc/tmp/exps/")
    return Path(before) if found else root


def source_tags(root: Path) -> dict[str, str]:
    """Return the Git commit, whether files differ from it, and the digest of dvc.lock.

    What is not there has no tag: a wheel or a container has no Git. dvc.lock does not count as a
    difference, for DVC rewrites it while the stages run.
    """
    tags = {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        changes = _git(root, "status", "--porcelain", "-uno", "--", ".", ":(exclude)dvc.lock")
        tags = {
            "mlflow.source.name": root.resolve().name,  # without it the page hides the commit
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit,
            "git.dirty": str(bool(changes)).lower(),
        }
    lock = root / "dvc.lock"
    if lock.is_file():
        tags["dvc.lock.sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    # No locks: DVC may be using the repository too.
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def lock_digests(root: Path) -> dict[str, str]:
    """Return the MD5 of each output in dvc.lock, as data.<path>; empty without the file.

    DVC writes one key a line and indents by two (`dvc/utils/serialize/_yaml.py`), so no YAML
    reader is needed: stages.<name>.outs is a list of path, hash, md5 ...
    """
    lock = root / "dvc.lock"
    digests, section, path = {}, "", ""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    for line in lines:
        if found := re.match(r"    (\w+):", line):
            section = found[1]
        elif found := re.match(r"    - path: (.+)", line):
            path = found[1].strip("'\"")
        elif section == "outs" and (found := re.match(r"      md5: (\S+)", line)):
            digests[f"data.{path}"] = found[1]
    return digests
