"""`unmask crop` on this machine: what `dvc repro faces` makes, before it."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from painted import load_squares
from shard_videos import ROOT, contents, make_project
from waiting import wait_until

from unmask import params
from unmask.cli.main import main
from unmask.faces import crops, shards, shared_detector
from unmask.faces.crops import find_missing, find_videos


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of six videos, cropped by painted squares in this process's folder."""
    make_project(tmp_path / "root", [f"v{number}" for number in range(5)])
    monkeypatch.chdir(tmp_path / "root")
    monkeypatch.setattr("unmask.cli.common.workers", lambda: 1)
    monkeypatch.setattr(
        shared_detector, "best_detector", lambda *_, **__: nullcontext(load_squares)
    )
    return tmp_path / "root"


def crop(*words: str) -> Result:
    return CliRunner().invoke(main, ["crop", *words])


def run_stage(faces: str, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["faces.py", "raw/wild/videos", faces])
    runpy.run_path(str(ROOT / "stages/faces.py"))["main"]()


def test_crops_are_those_of_the_stage_and_the_stage_keeps_them(root, monkeypatch, caplog):
    caplog.set_level("INFO")
    result = crop()
    assert result.exit_code == 0, result.output
    assert "chunk wild: 6 videos, 5 with a face, 1 without (1 not_a_video)" in caplog.messages
    made = contents(root / "faces/wild")
    times = {path: path.stat().st_mtime_ns for path in root.glob("faces/wild/*.mp4")}
    run_stage("by_the_stage/wild", monkeypatch)
    assert contents(root / "by_the_stage/wild") == made
    run_stage("faces/wild", monkeypatch)
    assert crop("wild").exit_code == 0
    assert contents(root / "faces/wild") == made
    assert times == {path: path.stat().st_mtime_ns for path in root.glob("faces/wild/*.mp4")}


def test_what_a_cluster_had_finished_is_taken_in(root, monkeypatch):
    """Half of the chunk lies in a shard of a cluster that is gone: nobody searches that again."""
    assert crop().exit_code == 0
    made = contents(root / "faces/wild")
    settings = params.load().faces
    videos = find_videos(Path("raw/wild/videos"))
    (root / "faces").rename(root / "before")
    shard, _ = shards.cut(find_missing(videos, Path("faces/wild"), settings, workers=1), 3)
    shards.crop(shard, Path(".crop_shards/wild/a"), workers=1, load_detector=load_squares)
    asked = []
    crop_jobs = crops.crop_jobs
    monkeypatch.setattr(
        crops, "crop_jobs", lambda jobs, *rest: asked.extend(jobs) or crop_jobs(jobs, *rest)
    )
    assert crop().exit_code == 0
    assert contents(root / "faces/wild") == made
    taken = {job.video_id for job in shard.jobs}
    assert len(taken) == 3
    assert {job.video_id for job in asked} == {video_id for video_id, _ in videos} - taken
    assert not (root / ".crop_shards").exists()


def test_a_dry_run_counts_and_touches_nothing(root):
    result = crop("--dry-run", "--shard", "4")
    assert re.fullmatch(
        r"wild: of 6 videos 6 videos are missing, in 2 shard\(s\), 0[.]0\d\d GB; about 0[.]00 "
        r"core-hours, assuming 7 GB a core-hour, as clips in 1080p\n", result.output
    ), result.output  # fmt: skip
    assert sorted(path.name for path in root.iterdir()) == ["params.yaml", "raw"]
    assert crop().exit_code == 0
    assert crop("--dry-run").output == "wild: of 6 videos nothing is missing\n"
    (root / "faces/wild/v1_0.mp4").unlink()
    assert crop("--dry-run").output.startswith("wild: of 6 videos 1 videos are missing, in 1 shard")


def test_benchmarks_are_cropped_where_their_stage_has_them(root):
    values = yaml.safe_load((root / "params.yaml").read_text()) | {"benchmarks": ["far"]}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (root / "held_out/raw").mkdir(parents=True)
    (root / "raw/wild").rename(root / "held_out/raw/far")
    assert crop("far").exit_code == 0
    assert len(list((root / "held_out/faces/far").glob("v*.mp4"))) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wlid"], "Error: Asked for the crops of 'wlid', which params.yaml does not name; its "
         "chunks and benchmarks are wild. Add"),
        (["--address", "10.0.0.1:6379"], "Error: --address 10.0.0.1:6379 is a Ray cluster's: add"),
        (["--shard", "0"], "0 is not in the range 1<=x<=10000"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("root")
def test_what_can_t_be_meant_is_one_line(words, said):
    result = crop(*words)
    assert result.exit_code
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_chunk_that_was_not_drawn_says_what_to_do(root):
    (root / "raw").rename(root / "elsewhere")
    result = crop()
    assert result.exit_code == 1
    assert "Asked for the videos in raw/wild/videos; there is no such folder. Run `dvc repro`." in (
        result.output
    )


def test_without_ray_the_command_says_how_to_get_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = crop("--on", "ray")
    assert result.exit_code == 1
    said = 'Error: unmask crop --on ray needs ray: pip install "unmask[ray]"\n'
    assert result.output == said
    assert not (root / "faces").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_so(root):
    words = [sys.executable, str(ROOT / "tests/parts/crop_command.py"), "crop"]
    slowly = os.environ | {"SECONDS_A_SEARCH": "1"}
    process = subprocess.Popen(words, cwd=root, stderr=subprocess.PIPE, text=True, env=slowly)
    partial = root / "faces/wild/.index.jsonl.partial"
    wait_until(lambda: partial.exists() and partial.read_text())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"Error: Asked for crops; you stopped it after \d video", said), said
    done = [json.loads(line)["video_id"] for line in partial.read_text().splitlines()]
    assert 1 <= len(done) < 6
    assert crop().exit_code == 0
    assert len(list(root.glob("faces/wild/v*.mp4"))) == 5
