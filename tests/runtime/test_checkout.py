"""Git asked in repositories that would run what a stranger named, and in plain ones."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.answers import model_source
from unmask.answers import provenance as answer_provenance
from unmask.runtime import checkout
from unmask.tracking import provenance


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a commit of three files."""
    made = tmp_path / "root"
    (made / "metrics").mkdir(parents=True)
    for name in ("a.txt", "run.sh", "metrics/test.json"):
        (made / name).write_text("a: 1\n")
    (made / "run.sh").chmod(0o755)
    (made / "link").symlink_to("a.txt")
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    return made


def changes(root: Path, folder: Path | None = None, written: tuple[str, ...] = ()) -> object:
    found = checkout.find(root)
    assert found
    return found.changes(folder or root, written)


def arm(root: Path) -> Path:
    """Let all that Git's configuration, hooks and attributes can name write into a file."""
    ran, script = root.parent / "RAN", root / ".git/evil.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\n')
    script.chmod(0o755)
    for key in (
        "core.fsmonitor", "filter.evil.clean", "filter.evil.smudge",
        "diff.evil.textconv", "diff.external", "core.pager", "core.sshCommand", "gpg.program",
        "alias.rev-parse", "alias.rev-list", "core.editor", "credential.helper",
    ):  # fmt: skip
        git(root, "config", key, str(script))
    git(root, "config", "log.showSignature", "true")
    git(root, "config", "remote.origin.url", f"ext::{script}")
    git(root, "config", "protocol.ext.allow", "always")
    git(root, "config", "remote.origin.promisor", "true")
    git(root, "config", "extensions.partialClone", "origin")
    git(root, "config", "core.repositoryformatversion", "1")
    for name in ("post-index-change", "post-checkout", "reference-transaction"):
        (root / ".git/hooks").mkdir(exist_ok=True)
        (root / ".git/hooks" / name).symlink_to(script)
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/attributes").write_text("* filter=evil diff=evil\n")
    ran.unlink(missing_ok=True)
    return ran


def test_nothing_that_a_repository_names_is_run(root: Path) -> None:
    from unmask.evaluation import gate

    ran = arm(root)
    (root / "a.txt").write_text("a: 2\n")  # of the same size, so that its content is read
    os.utime(root / "run.sh", (1, 1))
    assert provenance.source_tags(root)["git.dirty"] == "true"
    assert provenance.image_commit(root) is None  # nothing of the image is there
    assert provenance.image_changes(root) == ""
    with pytest.raises(gate.GateError):
        gate.record_of(root, "HEAD")
    assert gate.last_release(root) is None
    # A folder that is missing is never fetched: by the remote's address that would be a program.
    tree = git(root, "rev-parse", "HEAD^{tree}")
    (root / ".git/objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(checkout.GitError):
        checkout.ask(root, "ls-tree", "HEAD")
    assert changes(root) is None
    assert not ran.exists()
    subprocess.run(
        ["git", "-C", str(root), "status"], capture_output=True, stdin=subprocess.DEVNULL,
        timeout=60, check=False,
    )  # fmt: skip
    assert ran.exists()  # the trap does work


def test_a_report_asks_only_the_checkout_worked_in(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = tmp_path / "here"
    here.mkdir()
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    monkeypatch.chdir(here)
    beside, asked, mlflow_db = model_source.origin(root / "model")
    assert (beside, asked, mlflow_db) == (root, None, here / "mlflow.db")
    found = answer_provenance.collect(asked, run_key="k", command=[], mlflow_db=None, beside=beside)
    assert (found.git_commit, found.git_dirty) == (None, None)
    assert found.dvc_lock_sha256 is not None
    monkeypatch.chdir(root)
    assert model_source.origin(root / "model") == (root, root, root / "mlflow.db")
    monkeypatch.chdir(root / "metrics")
    assert model_source.origin(root / "model") == (root, root, root / "mlflow.db")
    # A stranger's folder in the checkout, with a repository of its own.
    theirs = root / "theirs"
    theirs.mkdir()
    git(theirs, "init", "-q")
    (theirs / "dvc.lock").touch()
    monkeypatch.chdir(root)
    assert model_source.origin(theirs / "model") == (theirs, None, root / "mlflow.db")


def test_what_differs_is_told_as_git_tells_it(root: Path) -> None:
    commit = git(root, "rev-parse", "HEAD")
    found = checkout.find(root / "metrics")
    assert found
    assert (found.top, found.head()) == (root, commit)
    (root / "untracked").touch()
    os.utime(root / "a.txt", (1, 1))  # touched: the same content
    assert changes(root) == []
    (root / "a.txt").write_text("a: 2\n")
    (root / "run.sh").chmod(0o644)
    (root / "link").unlink()
    (root / "link").symlink_to("b.txt")
    (root / "metrics/test.json").unlink()
    (root / "new").touch()
    git(root, "add", "new")
    all_of_it = ["a.txt", "link", "metrics/test.json", "new", "run.sh"]
    assert changes(root) == all_of_it
    said = git(root, "status", "--porcelain", "-uno").splitlines()
    assert sorted(line.split()[-1] for line in said) == all_of_it
    assert changes(root, written=("metrics", "a.txt")) == ["link", "new", "run.sh"]
    assert changes(root, root / "metrics") == ["metrics/test.json"]
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")  # it is not opened
    assert "a.txt" in changes(root)  # type: ignore[operator]


def test_a_file_system_without_rights_shows_no_change(root: Path) -> None:
    (root / "run.sh").chmod(0o644)
    git(root, "config", "core.fileMode", "false")
    assert changes(root) == []


def test_commits_are_found_where_git_keeps_them(root: Path, tmp_path: Path) -> None:
    commit = git(root, "rev-parse", "HEAD")

    def head(folder: Path) -> str | None:
        found = checkout.find(folder)
        return found and found.head()

    git(root, "pack-refs", "--all")
    git(root, "gc", "-q")
    assert head(root) == commit
    assert changes(root) == []
    git(root, "worktree", "add", "-q", str(tmp_path / "second"))
    git(tmp_path / "second", "commit", "-qm", "second", "--allow-empty")
    assert head(tmp_path / "second") == git(tmp_path / "second", "rev-parse", "HEAD") != commit
    assert changes(tmp_path / "second") == []
    git(root, "checkout", "-q", "--detach")
    assert head(root) == commit


@pytest.mark.parametrize(
    "head",
    [b"ref: refs/../../../secret\n", b"ref: /etc/hostname\n", b"\xff" * 99, b"", b"x" * 9999],
)
def test_a_head_that_is_none_is_not_followed(root: Path, head: bytes) -> None:
    (root / ".git/secret").write_text("0" * 40)
    (root / ".git/HEAD").write_bytes(head)
    found = checkout.find(root)
    assert found
    assert found.head() is None
    assert provenance.source_tags(root) == {}


def test_damage_and_pipes_are_told_and_not_waited_for(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = root / ".git/index"
    whole = index.read_bytes()
    for damage in (b"DIRC\0\0\0\2\xff\xff\xff\xff", whole[: len(whole) // 2], b"\0" * 100):
        index.write_bytes(damage)
        with caplog.at_level(logging.WARNING, "unmask"):
            tags = provenance.source_tags(root)
        assert "git.dirty" not in tags
        assert "whether the checkout has changes is not known" in caplog.text
        caplog.clear()
    index.unlink()
    os.mkfifo(index)
    assert "git.dirty" not in provenance.source_tags(root)
    (root / ".git/packed-refs").unlink(missing_ok=True)
    os.mkfifo(root / ".git/packed-refs")
    (root / ".git/HEAD").write_text("ref: refs/heads/gone\n")
    assert provenance.source_tags(root) == {}


def test_another_users_repository_is_not_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(root).st_uid + 1)
    assert checkout.find(root) is None


def test_the_current_folder_lends_no_modules(tmp_path: Path) -> None:
    """Worker processes begin with `python -c`, which would look there first."""
    trap = f"open({str(tmp_path / 'RAN')!r}, 'w')\nraise ImportError('the trap')\n"
    for name in ("multiprocessing", "pickle", "click", "av", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(trap)
    code = (
        "from unmask.cli.command_group import CommandGroup\n"
        "CommandGroup('unmask').make_context('unmask', [], resilient_parsing=True)\n"
        "from multiprocessing import get_context\n"
        "if __name__ == '__main__':\n"
        "    child = get_context('spawn').Process(target=print, args=('worker',))\n"
        "    child.start(); child.join(); print(child.exitcode)\n"
    )
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub/program.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["worker", "0"]
    helped = subprocess.run(
        [sys.executable, "-m", "unmask", "--help"], cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "predict" in helped.stdout
    assert not (tmp_path / "RAN").exists()
    assert stat.S_ISREG(script.stat().st_mode)
