"""Results of videos as files and objects: put, fetched, and checked before they are taken."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from painted import SETTINGS, load_squares
from s3_server import BUCKET, names, running_s3
from shard_videos import contents, make_project

from unmask.faces import shard_store, shards
from unmask.faces.crops import Job, crop_chunk, find_missing, find_videos, read_rows
from unmask.faces.shard_store import Results, name_of
from unmask.faces.shards import Shard
from unmask.records import Reason, VideoFaces

pytestmark = pytest.mark.slow


@pytest.fixture
def results() -> Iterator[Results]:
    with running_s3() as (_, client):
        yield Results(client, BUCKET, "crops")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Videos that are missing, in the current folder, whose crops by one run are in by_one_run."""
    make_project(tmp_path / "root", [f"v{number}" for number in range(3)])
    monkeypatch.chdir(tmp_path / "root")
    videos = find_videos(Path("raw/wild/videos"))
    list(crop_chunk(videos, Path("by_one_run"), SETTINGS, workers=1, load_detector=load_squares))
    return find_missing(videos, Path("faces/wild"), SETTINGS, workers=1)


def crop(jobs: list[Job]) -> Iterator[Any]:
    folder = Path("made")
    shard = Shard(tuple(jobs))
    named = {job.video_id: name_of(job) for job in jobs}
    for row in shards.crop_each(shard, folder, workers=1, load_detector=load_squares):
        yield row, folder, named[row.video_id]


def take_in(results: Results, jobs: list[Job]) -> list[str]:
    folder = Path(".shards/one")
    Path("faces/wild").mkdir(parents=True)  # as whoever crops a chunk makes it
    results.fetch(jobs, folder, passing=False)
    return [row.video_id for row in shards.take_in_leftovers([folder], jobs)]


def test_names_say_content_code_and_path(jobs):
    named = [name_of(job) for job in jobs]
    assert len(set(named)) == len(jobs) == 4
    assert all(name.startswith("wild/") and len(name) == len("wild/") + 32 for name in named)


def test_what_is_sent_comes_back_as_one_run_makes_it(jobs, results):
    for row, folder, name in crop(jobs):
        results.send(row, folder, name)
    assert len(names(results.s3, "crops/wild/")) == 4 + 3
    assert sorted(take_in(results, jobs)) == ["text", "v0", "v1", "v2"]
    made = contents(Path("faces/wild"))
    wanted = contents(Path("by_one_run"))
    del wanted["index.jsonl"]
    assert made == wanted
    assert not Path(".shards/one").exists()


def test_a_folder_of_results_holds_whole_ones_alone(jobs):
    rows = crop(jobs)
    for _ in range(2):
        row, folder, name = next(rows)
        shard_store.put(row, folder, name, Path("output"))
    rows.close()
    found = [path for path in Path("output").rglob("*") if path.is_file()]
    texts = [path for path in found if path.suffix == ".json"]
    assert len(texts) == 2
    for path in texts:
        result = json.loads(path.read_text())
        assert sorted(result["digests"].items()) == sorted(
            contents(path.with_suffix("")).items() if path.with_suffix("").is_dir() else ()
        )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda s3, start: s3.put_object(Bucket=BUCKET, Key=f"{start}.json", Body=b"[3]"),
            "no row",
        ),
        (
            lambda s3, start: s3.put_object(
                Bucket=BUCKET, Key=f"{start}/v0_0.mp4", Body=b"another"
            ),
            "is another",
        ),
        (lambda s3, start: s3.delete_object(Bucket=BUCKET, Key=f"{start}/v0_0.mp4"), "not there"),
        (
            lambda s3, start: s3.put_object(
                Bucket=BUCKET, Key=f"{start}.json",
                Body=s3.get_object(Bucket=BUCKET, Key=f"{start}.json")["Body"]
                .read().replace(b"v0_0.mp4", b"../v0.mp4"),
            ),
            "names files elsewhere",
        ),
        (
            lambda s3, start: s3.put_object(
                Bucket=BUCKET, Key=f"{start}.json",
                Body=re.sub(
                    rb"(key\W+)[0-9a-f]{64}", rb"\g<1>" + b"0" * 64,
                    s3.get_object(Bucket=BUCKET, Key=f"{start}.json")["Body"].read(),
                ),
            ),
            "of other content, or by other code",
        ),
    ],
)  # fmt: skip
def test_half_a_result_is_named_and_left_out(jobs, results, caplog, damage, words):
    for row, folder, name in crop(jobs):
        results.send(row, folder, name)
    [job] = [job for job in jobs if job.video_id == "v0"]
    file = read_rows(Path("made"))["v0"].tracks[0].file
    assert file == "v0_0.mp4"
    damage(results.s3, f"crops/{name_of(job)}")
    assert sorted(take_in(results, jobs)) == ["text", "v1", "v2"]
    assert f"raw/wild/videos/v0.mp4: asked for its crops, s3://{BUCKET}/crops/wild/" in caplog.text
    assert words in caplog.text


def test_what_is_there_is_told_without_fetching_it(jobs, results):
    assert results.there(jobs, passing=True) == []
    for row, folder, name in crop(jobs[:2]):
        results.send(row, folder, name)
    assert results.there(jobs, passing=False) == jobs[:2]


def test_a_failure_that_may_pass_holds_only_where_it_is_asked_for(jobs, results):
    job = jobs[0]
    row = VideoFaces(job.video_id, "", (), Reason.CRASHED, "its worker ended")
    results.send(row, Path("made"), name_of(job))
    assert names(results.s3, "crops/") == [f"crops/{name_of(job)}.passing.json"]
    assert results.there([job], passing=False) == []
    assert results.fetch([job], Path("one"), passing=False) == {}
    assert not Path("one").exists()
    assert results.there([job], passing=True) == [job]
    results.fetch([job], Path("one"), passing=True)
    assert read_rows(Path("one")) == {job.video_id: row}


def test_a_result_that_is_still_arriving_is_no_fault_yet(jobs, results, caplog):
    for row, folder, name in crop(jobs[1:2]):
        results.send(row, folder, name)
    results.s3.delete_object(Bucket=BUCKET, Key=f"crops/{name_of(jobs[1])}/v0_0.mp4")
    assert results.fetch([jobs[1]], Path("one"), passing=True, is_final=False) == {}
    assert "asked for its crops" not in caplog.text
