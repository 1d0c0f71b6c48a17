"""The gate, in a Git repository with releases."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from unmask import params
from unmask.cli.main import main
from unmask.evaluation import gate

ROOT = Path(__file__).parents[2]
LIMITS = params.load(ROOT / "params.yaml").gate.max_growth


def record(
    *, auc=0.95, log_loss=0.3, auc_drop=0.1, growth=0.4, coverage=1.0, videos="v", settings="s"
):
    return {
        "worst": {"roc_auc_drop": auc_drop, "log_loss_drop": growth, "coverage": coverage},
        "robustness": {"clean": {"roc_auc": auc, "log_loss": log_loss}},
        "measured_on": [videos, settings],
        "rows": [],
    }


def git(root, *arguments):
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    command = ["git", "-C", str(root), *author, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def put(root, found):
    """Write the record that the robustness stage would have."""
    (root / gate.RECORD).parent.mkdir(exist_ok=True)
    (root / gate.RECORD).write_text(json.dumps(found))


def release(root, found, tag=None):
    put(root, found)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", f"Release {tag}")
    if tag:
        git(root, "tag", tag)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one commit, in which commands run."""
    git(tmp_path, "init", "--quiet")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*options):
    done = CliRunner().invoke(main, ["gate", *options])
    return done.exit_code, done.output


def test_without_a_release_it_says_so_and_passes(root):
    git(root, "tag", "v0.1")  # of a time without a record
    release(root, record())
    code, said = ask()
    assert code == 0
    assert "No release to compare with" in said


def test_the_same_figures_pass_and_worse_ones_fail(root):
    release(root, record(), "v0.1")
    release(root, record())
    assert ask()[0] == 0
    put(root, record(auc_drop=0.1 + LIMITS.roc_auc))
    assert ask()[0] == 0  # the limit itself
    put(root, record(auc_drop=0.101 + LIMITS.roc_auc))
    code, said = ask()
    assert code == 1
    [line] = [line for line in said.splitlines() if line.endswith("WORSE")]
    assert line.split() == ["worst", "AUC", "drop", "0.1000", "0.1210", "0.1200", "WORSE"]
    assert "Worse than v0.1" in said
    assert "worst AUC drop. Find out" in said


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"auc": 0.9}, "AUC"),
        ({"log_loss": 0.5}, "log-loss"),
        ({"growth": 0.9}, "worst log-loss growth"),
        ({"coverage": 0.5}, "lowest coverage"),
        ({"auc": None}, "AUC"),
    ],
)
def test_each_figure_is_held(values, what):
    checks = gate.compare(record(), record(**values), params.load(ROOT / "params.yaml").gate)
    assert [check.what for check in checks if not check.holds] == [what]


def test_better_is_no_growth():
    better = record(auc=0.99, log_loss=0.1, auc_drop=0.0, growth=0.0)
    checks = gate.compare(record(coverage=0.5), better, params.load(ROOT / "params.yaml").gate)
    assert all(check.holds for check in checks)


def test_the_last_release_is_the_newest_version_before_this_commit(root):
    for number, tag in enumerate(("v1.9", "v1.10-rc1", "v1.10", "w9")):
        release(root, record(auc=0.9 + number / 100), tag)
    release(root, record(auc=0.95), "v1.11")  # this commit: it is what is asked about
    tag, found = gate.last_release(root)
    assert (tag, found["robustness"]["clean"]["roc_auc"]) == ("v1.10", 0.92)


def test_a_release_of_another_line_is_not_before_this_commit(root):
    release(root, record(auc=0.9), "v1.0")
    git(root, "checkout", "--quiet", "-b", "next")
    release(root, record(auc=0.99), "v2.0")
    git(root, "checkout", "--quiet", "-")
    release(root, record(auc=0.91))
    assert gate.last_release(root) == ("v1.0", record(auc=0.9))
    git(root, "tag", "--delete", "v1.0")
    code, said = ask()  # to pass as a project without releases would be to look away
    assert code == 1
    assert "descends from none of v2.0" in said


def test_another_revision_can_be_asked_for(root):
    release(root, record(auc=0.99))
    release(root, record(auc=0.9), "v0.1")
    assert ask()[0] == 0
    assert ask("--against", "HEAD~1")[0] == 1
    code, said = ask("--against", "v7")
    assert code == 1
    assert "name a revision that `git log` knows" in said


@pytest.mark.parametrize(
    ("other", "what"), [("videos", "other test videos"), ("settings", "other degradations")]
)
def test_what_was_measured_otherwise_is_not_compared(root, other, what):
    release(root, record(**{other: "x"}), "v0.1")
    release(root, record())
    code, said = ask()
    assert code == 1
    assert what in said
    assert "--against" in said


def test_a_shallow_clone_does_not_pass_for_a_project_without_releases(root, tmp_path_factory):
    release(root, record(), "v0.1")
    release(root, record(auc=0.5))
    clone = tmp_path_factory.mktemp("clones") / "shallow"
    git(root, "clone", "--quiet", "--depth=1", "--no-tags", root.as_uri(), str(clone))
    with pytest.raises(gate.GateError, match="shallow clone"):
        gate.last_release(clone)


@pytest.mark.parametrize("text", ["{", "[]", '{"worst": {}}', "[" * 2000])
def test_a_damaged_record_is_named(root, text):
    put(root, record())
    (root / gate.RECORD).write_text(text)
    code, said = ask()
    assert code == 1
    assert f"{gate.RECORD} should hold" in said


@pytest.mark.usefixtures("root")
def test_without_a_record_or_git_it_says_what_to_do(tmp_path_factory):
    assert "Run `dvc repro robustness`" in ask()[1]
    with pytest.raises(gate.GateError, match="not a git repository"):
        gate.last_release(tmp_path_factory.mktemp("bare"))
