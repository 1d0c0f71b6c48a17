"""Where a run comes from, read off made repositories."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.tracking import provenance


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_image_is_of_the_last_commit_that_changed_it(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    (origin / "src").mkdir(parents=True)
    git(origin, "init")
    commits = []
    for name in ("src/a.py", "dvc.lock"):
        (origin / name).touch()
        git(origin, "add", ".")
        git(origin, "commit", "-m", name)
        commits.append(git(origin, "rev-parse", "HEAD"))
    assert provenance.image_commit(origin) == commits[0]
    assert not provenance.image_changes(origin)
    (origin / "src/b.py").touch()
    assert "src/b.py" in provenance.image_changes(origin)
    git(tmp_path, "clone", "--depth", "1", f"file://{origin}", str(clone))
    assert provenance.image_commit(clone) is None  # it would be another one, that nobody built


def test_source_tags_name_the_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "metrics").mkdir()
    for name in ("params.yaml", "dvc.lock", "metrics/test.json"):
        (tmp_path / name).write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    expected = {
        "mlflow.source.name": tmp_path.name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git(tmp_path, "rev-parse", "HEAD"),
        "git.dirty": "false",
    }
    (tmp_path / "untracked").touch()
    assert provenance.source_tags(tmp_path) == expected
    (tmp_path / "dvc.lock").write_text("b: 2\n")
    (tmp_path / "metrics/test.json").unlink()  # as DVC does before it evaluates
    assert provenance.source_tags(tmp_path) == expected
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert provenance.source_tags(tmp_path) == expected | {"git.dirty": "true"}


def test_source_tags_do_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.source_tags(tmp_path) == {}
    git(tmp_path, "init")  # no commit yet
    assert provenance.source_tags(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))  # nor the program
    assert provenance.source_tags(tmp_path) == {}
    assert provenance.lock_digests(tmp_path, stage=None) == {}


def test_lock_digests_are_those_of_what_a_stage_reads(tmp_path: Path) -> None:
    from dvc.utils.serialize import dump_yaml

    def entry(path: str, digit: str) -> dict[str, Any]:
        return {"path": path, "hash": "md5", "md5": digit * 32 + ".dir", "size": 3, "nfiles": 1}

    lock = {
        "schema": "2.0",
        "stages": {
            "raw@sample": {
                "cmd": "python stages/raw.py sample",
                "deps": [entry("data/chunks/sample", "1")],
                "params": {"params.yaml": {"raw": {"outs": [{"path": "x", "md5": "y"}]}}},
                "outs": [entry("raw/sample/videos", "2"), entry("raw/sample/index.csv", "3")],
            },
            "train": {
                "cmd": ["python a.py", "python b.py: c"],
                "deps": [entry("raw/sample/videos", "2")],
                "outs": [entry("a: net's #1", "4"), entry("model", "5")],
            },
            "evaluate": {
                "cmd": "python stages/evaluate.py",
                "outs": [entry("metrics/test.json", "6"), entry("plots/evaluation", "7")],
            },
            "robustness": {
                "cmd": "python stages/robustness.py",
                "outs": [entry("robustness", "8"), entry("metrics/robustness.json", "9")],
            },
        },
    }
    dump_yaml(tmp_path / "dvc.lock", lock)
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text()) == lock
    expected = {
        "data.raw/sample/videos": "2" * 32 + ".dir",
        "data.raw/sample/index.csv": "3" * 32 + ".dir",
        "data.a: net's #1": "4" * 32 + ".dir",
    }
    assert provenance.lock_digests(tmp_path, stage="train") == expected
    expected["data.model"] = "5" * 32 + ".dir"
    for stage in ("evaluate", "robustness"):
        assert provenance.lock_digests(tmp_path, stage=stage) == expected
    assert provenance.lock_digests(tmp_path / "elsewhere", stage=None) == {}


def test_an_experiments_copy_belongs_to_its_checkout(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    copy.mkdir(parents=True)
    assert provenance.main_checkout(copy) == tmp_path
    git(copy, "init")
    git(copy, "commit", "--allow-empty", "-m", "first")
    assert provenance.source_tags(copy)["mlflow.source.name"] == tmp_path.name
    assert provenance.main_checkout(tmp_path) == tmp_path
    assert provenance.main_checkout(tmp_path / ".dvc/tmp") == tmp_path / ".dvc/tmp"
