"""Where a run comes from: its commit, its data, its checkout."""

import re
from pathlib import Path

from unmask.runtime import checkout

# What is in the image of training jobs, or decides what is; its README only describes the wheel.
IMAGE = (
    ".dockerignore", "LICENSE", "NOTICE", "containers", "hatch_build.py", "pyproject.toml", "src",
)  # fmt: skip


def main_checkout(root: Path) -> Path:
    """Return the checkout that lasts: DVC runs experiments in copies that it deletes afterwards.

    >>> main_checkout(Path("/home/ann/unmask/.dvc/tmp/exps/standalone/tmp1")).as_posix()
    '/home/ann/unmask'
    """
    before, found, _ = root.resolve().as_posix().partition("/.dvc/tmp/exps/")
    return Path(before) if found else root


def source_tags(root: Path) -> dict[str, str]:
    """Return the Git commit and whether files differ from it; nothing where there is no Git.

    Nothing that the checkout's configuration names is run: see checkout. Without `git.dirty` it is
    not known whether files differ. dvc.lock and metrics do not count as a difference: DVC rewrites
    the one while the stages run, and takes the other away before evaluate does.
    """
    found = checkout.find(root)
    commit = found and found.head()
    if not found or not commit:
        return {}
    tags = {
        # Without a name the page hides the commit.
        "mlflow.source.name": main_checkout(root).resolve().name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }
    changes = found.changes(root, written=("dvc.lock", "metrics"))
    return tags if changes is None else tags | {"git.dirty": str(bool(changes)).lower()}


def image_commit(root: Path) -> str | None:
    """Return the last commit that changed what is in the image of training jobs: the image's tag.

    A commit of metrics or params needs no other image. None where there is no commit, or where a
    shallow clone hides which one it was.
    """
    try:
        if checkout.ask(root, "rev-parse", "--is-shallow-repository").strip() == "true":
            return None
        return checkout.ask(root, "rev-list", "-1", "HEAD", "--", *IMAGE).strip() or None
    except checkout.GitError:
        return None


def image_changes(root: Path) -> str:
    """Return what of the image's content differs from the commit: a line for each file, or ""."""
    found = checkout.find(root)
    if not found or not found.head():
        return ""
    changed = found.changes(root)
    if changed is None:
        return f"not known, as Git's files in {root} can't be read"
    prefix = root.resolve().relative_to(found.top)
    paths = [(prefix / path).as_posix() for path in IMAGE]
    ours = [path for path in changed if any(path == p or path.startswith(f"{p}/") for p in paths)]
    lines = [f"changed: {path}" for path in ours]
    return "\n".join(lines + [f"untracked: {path}" for path in found.untracked(paths)])


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
