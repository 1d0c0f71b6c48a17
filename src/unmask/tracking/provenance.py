"""Where a run comes from: its commit, its data, its checkout."""

import re
import subprocess
from pathlib import Path

# What is in the image of training jobs, or decides what is; its README only describes the wheel.
IMAGE = (".dockerignore", "LICENSE", "containers", "pyproject.toml", "src")


def main_checkout(root: Path) -> Path:
    """Return the checkout that lasts: DVC runs experiments in copies that it deletes afterwards.

    >>> main_checkout(Path("/home/ann/unmask/.dvc/tmp/exps/standalone/tmp1")).as_posix()
    '/home/ann/unmask'
    """
    before, found, _ = root.resolve().as_posix().partition("/.dvc/tmp/exps/")
    return Path(before) if found else root


def source_tags(root: Path) -> dict[str, str]:
    """Return the Git commit and whether files differ from it; nothing where there is no Git.

    dvc.lock and metrics do not count as a difference: DVC rewrites the one while the stages run,
    and takes the other away before evaluate does.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {}
    written = [f":(exclude){path}" for path in ("dvc.lock", "metrics")]
    changes = _git(root, "status", "--porcelain", "-uno", "--", ".", *written)
    return {
        # Without a name the page hides the commit.
        "mlflow.source.name": main_checkout(root).resolve().name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "git.dirty": str(bool(changes)).lower(),
    }


def image_commit(root: Path) -> str | None:
    """Return the last commit that changed what is in the image of training jobs: the image's tag.

    A commit of metrics or params needs no other image. None where there is no commit, or where a
    shallow clone hides which one it was.
    """
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        return None
    return _git(root, "log", "-1", "--format=%H", "--", *IMAGE) or None


def image_changes(root: Path) -> str:
    """Return what of the image's content differs from the commit, as `git status` lists it."""
    return _git(root, "status", "--porcelain", "--", *IMAGE) or ""


def _git(root: Path, *arguments: str) -> str | None:
    # No locks: DVC may be using the repository too.
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def lock_digests(root: Path, *, stage: str | None) -> dict[str, str]:
    """Return the MD5 of what the stage reads, as data.<path>; empty without a dvc.lock.

    While a stage runs dvc.lock still holds its old outputs and those of the stages after it: the
    metrics, plots and the answers on degraded videos are never among its inputs, and the model only
    of evaluate's and robustness's.

    DVC writes one key a line and indents by two (`dvc/utils/serialize/_yaml.py`), so no YAML
    reader is needed: stages.<name>.outs is a list of path, hash, md5 ...
    """
    lock = root / "dvc.lock"
    later = {"metrics", "plots", "robustness"}
    later |= set() if stage in ("evaluate", "robustness") else {"model"}
    digests, section, path = {}, "", ""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    for line in lines:
        if found := re.match(r"    (\w+):", line):
            section = found[1]
        elif found := re.match(r"    - path: (.+)", line):
            path = found[1].strip("'\"")
        elif section != "outs" or path.partition("/")[0] in later:
            continue
        elif found := re.match(r"      md5: (\S+)", line):
            digests[f"data.{path}"] = found[1]
    return digests
