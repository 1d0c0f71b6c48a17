"""docs/tutorial.md as its reader meets it: each command is read out of the page, and typed."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_account import Service, clean_environment, running_service, set_up
from small_project import carry, commit, run

from unmask import params
from unmask.models import backbones, checkpoint
from unmask.scoring.verdicts import NOTHING_LEARNED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Beyond a small project: what packs the functions of a federated run, and where training starts.
MORE = (
    "federated", "weights", "hatch_build.py", "pyproject.toml", "requirements.lock", "README.md",
    "LICENSE", "NOTICE",
)  # fmt: skip
PEOPLE = (16, 6)  # numbered below 100, which become a chunk, and above, which become a benchmark
# Lines of params.yaml, whose form the page's own edits rely on.
SMALL = {
    "  seconds: 3.0\n": "  seconds: 1.6\n",
    "  validation_ratio: 0.15 ": "  validation_ratio: 0.25 ",
    "  test_ratio: 0.15\n": "  test_ratio: 0.25\n",
    "  side_px: null": "  side_px: 64",
    "  max_per_track: 2400": "  max_per_track: 2",
    "  epochs: 8\n": "  epochs: 1\n",
    "  milestone: 1 ": "  milestone: 0 ",
    "  bootstrap_resamples: 1000\n": "  bootstrap_resamples: 50\n",
    "  max_videos: null": "  max_videos: 2",
}
ANSWERS = {0, 3, 4}  # of `unmask predict`: real, fake, not clear


def commands(text: str) -> list[str]:
    """Return the commands of a page, a line that goes on joined to the next.

    >>> commands("```sh\\na \\\\\\n  b\\nc\\n```\\n```\\nsaid\\n```\\n")
    ['a   b', 'c']
    """
    return [
        line for block in _COMMANDS.findall(text)
        for line in block.replace("\\\n", "").splitlines() if line.strip()
    ]  # fmt: skip


def take_sources(root: Path) -> None:
    """Copy some people's stills: 004, whom the page names, and the first others."""
    with (ROOT / "data/sources/sources.csv").open(newline="") as lines:
        rows = {row["person"]: row for row in csv.DictReader(lines) if "stills/" in row["file"]}
    low = sorted(name for name in rows if name < "london_100")
    low.sort(key=lambda name: name != "london_004")
    high = sorted(name for name in rows if name >= "london_100")
    high.sort(key=lambda name: "neutral" not in rows[name]["file"])  # few; the page copies both
    kept = sorted(low[: PEOPLE[0]] + high[:2] + high[2 - PEOPLE[1] :])
    (root / "data/sources/stills").mkdir(parents=True)
    with (root / "data/sources/sources.csv").open("w", newline="") as lines:
        table = csv.DictWriter(lines, ["file", "person", "split"])
        table.writeheader()
        for row in (rows[name] for name in kept):
            table.writerow(row)
            shutil.copyfile(
                ROOT / "data/sources" / row["file"], root / "data/sources" / row["file"]
            )


def make_project(root: Path) -> None:
    """Make a checkout as `make repro` leaves it, of fewer people; its net is not trained."""
    carry(root)
    for name in MORE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, root / name)
    take_sources(root)
    text = (root / "params.yaml").read_text()
    for long, short in SMALL.items():
        assert text.count(long) == 1, long
        text = text.replace(long, short)
    (root / "params.yaml").write_text(re.sub(r"    crf_32: .*(\n    .*)*\n", "", text))
    settings = params.load(root / "params.yaml")
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)
    torch.manual_seed(3)
    made = checkpoint.Checkpoint(
        settings.faces, settings.clips, settings.model, 1.0, limits, "not-trained"
    )
    (root / "model").mkdir()
    checkpoint.save(root / "model", backbones.build("x3d_xs", dropout=0.5).eval(), made)
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "repro", "--quiet", "sample")
    commit(root, "Make the sample")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "unmask"
    root.mkdir()
    make_project(root)
    return root


@pytest.fixture
def service(project: Path) -> Iterator[Service]:
    with running_service() as found:
        set_up(found, project)
        found.client("s3").create_bucket(
            Bucket="your-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield found


def test_the_page_has_commands_of_each_part() -> None:
    parts = PAGE.read_text().split("\n## ")[1:]
    words = (
        "unmask predict",
        "dvc repro",
        "unmask benchmark",
        "unmask sagemaker",
        "unmask federated",
    )
    assert len(parts) == len(words)
    for part, word in zip(parts, words, strict=True):
        assert any(line.startswith(word) for line in commands(part)), word


@pytest.mark.slow
@pytest.mark.timeout(1500)  # three minutes on two idle cores
def test_each_command_does_what_the_page_says(
    project: Path, service: Service, tmp_path: Path
) -> None:
    typed = commands(PAGE.read_text())
    script = "\n".join(f'{line}\nprintf "\\n@@ %s\\n" $?' for line in typed)
    log = tmp_path / "said.txt"
    with log.open("w") as out:
        subprocess.run(
            ["bash", "-c", script], cwd=project, stdout=out, stderr=subprocess.STDOUT, check=True,
            env=clean_environment() | {name: text for name, text in service.variables.items()
                                       if not name.startswith("UNMASK_SAGEMAKER_R")}
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
               "PYTHONPATH": str(project / "src"), "AWS_CONFIG_FILE": str(tmp_path / "none"),
               "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")},
        )  # fmt: skip
    said = re.split(r"^@@ (\d+)\n", log.read_text(), flags=re.MULTILINE)
    codes = map(int, said[1::2])
    answers = dict(zip(typed, zip(codes, said[:-1:2], strict=True), strict=True))
    for line, (code, words) in answers.items():
        assert code in (ANSWERS if line.startswith("unmask predict") else {0}), f"{line}\n{words}"

    def told(beginning: str) -> str:
        return "".join(words for line, (_, words) in answers.items() if line.startswith(beginning))

    assert "not calibrated" in answers[typed[0]][1]
    assert "like the 22 that it was calibrated on (the sample's people)" in told("unmask calibrate")
    assert "matches" in told("unmask verify")
    assert "<title>" in (project / "clip.html").read_text()
    assert "reports/" in (project / "index.html").read_text()
    mine = json.loads((project / "metrics/test.json").read_text())
    assert 0 < mine["videos"] < 48
    assert {"log_loss", "roc_auc"} <= set(mine["video"])
    table = told("unmask benchmark table")
    assert re.search(r"^model +\d", table, re.MULTILINE)
    assert re.search(r"^first +\d.*†", table, re.MULTILINE)  # a mark: it saw this data
    assert ">first<" in (project / "benchmarks.html").read_text()
    dry = told("unmask sagemaker submit --dry-run")
    shown = json.loads(dry[dry.index("{\n") : dry.rindex("}") + 1])
    [request] = service.requests
    assert request == shown
    assert request["RoleArn"] == "arn:aws:iam::123456789012:role/unmask"
    assert request["OutputDataConfig"]["S3OutputPath"].startswith("s3://your-bucket/")
    assert service.jobs[request["TrainingJobName"]].training_job_status == "Stopping"
    assert {"single-org1", "single-org2", "fedavg-1"} <= set(
        re.findall(r"[\w-]+", told("unmask federated leaderboard"))
    )
