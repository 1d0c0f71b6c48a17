"""Fakes of genuine footage: only the face differs, chance is the seed's, bad files are named."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from unmask import params
from unmask.cli.main import main
from unmask.data import archive, datasets
from unmask.data.layouts.entry import name_flaw
from unmask.errors import DatasetError
from unmask.faces.landmarks import Face
from unmask.forgeries.fake import Settings, make_chunk, plan_fakes
from unmask.forgeries.footage import Donor, Footage, find_footage, remarks, summarise
from unmask.video.decode import probe, read_frames

SOURCES = Path(__file__).parents[2] / "data/sources"
FACES = params.Faces(
    rate_fps=10.0, side_px=64, margin_ratio=0.0, crf=14, detect_every_s=0.3, smooth_s=0.2,
    min_track_s=0.4, max_gap_s=0.7, min_overlap=0.3, max_failed_ratio=0.5, stall_s=60.0,
    detect=params.Detect(
        max_side_px=480, min_face_px=24, thresholds=(0.6, 0.7, 0.7), min_score=0.9
    ),
)  # fmt: skip


def settings(**changes):
    values = {
        "method": "both", "fakes_per_video": 2, "crf": (20, 26), "max_seconds": 0.8, "seed": 1,
        "faces": FACES,
    }  # fmt: skip
    return Settings(**(values | changes))


# ---------------------------------------------------------------- footage


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def find(*paths, chunk=Path("elsewhere"), person_from_folder=False):
    return find_footage(paths, chunk, person_from_folder=person_from_folder)


def test_folders_are_searched_for_videos_and_files_are_taken_as_they_are(tmp_path):
    folder = touch(tmp_path, "b/x.MOV", "a/x.mp4", "a/y/z.mkv", "a/notes.txt", ".t/x.mp4", "q.bin")
    found = find(folder, folder / "q.bin", folder / "a/x.mp4")
    assert [one.path.relative_to(folder).as_posix() for one in found] == [
        "a/x.mp4", "a/y/z.mkv", "b/x.MOV", "q.bin",
    ]  # fmt: skip


def test_two_files_of_one_name_are_two_videos_and_two_people(tmp_path):
    one, other = find(touch(tmp_path, "a/x.mp4", "b/x.mp4"))
    assert one.video_id != other.video_id
    assert one.source_id != other.source_id
    assert one.video_id.startswith("x_")


def test_a_folder_may_say_who_is_seen(tmp_path):
    found = find(touch(tmp_path, "Ana/1.mp4", "Ana/2.mp4", "Bo/1.mp4"), person_from_folder=True)
    assert [one.source_id for one in found] == ["Ana", "Ana", "Bo"]
    assert len({one.video_id for one in found}) == 3


def test_folders_of_one_name_in_two_spellings_show_one_person(tmp_path, caplog):
    footage = touch(tmp_path, "a/Ana/1.mp4", "a/Ana/3.mp4", "b/ana /2.mp4", "b/Bo/1.mp4")
    found = find(footage, person_from_folder=True)
    people = {one.path.name: one.source_id for one in found if one.path.parent.name != "Bo"}
    assert people == dict.fromkeys(("1.mp4", "2.mp4", "3.mp4"), "Ana")
    assert caplog.messages == ["folders 'Ana' and 'ana ' are taken for one person, 'Ana'"]
    assert len({one.source_id for one in find(footage)}) == 4


@pytest.mark.parametrize("stem", ["we ird/..", "-x", "ü" * 90, "a.b\nc", "_"])
def test_any_file_gets_a_name_that_the_raw_stage_takes(stem):
    one = Footage(Path(f"f/{stem.replace('/', '')}.mp4"), "0123456789abcdef" * 4, None)
    longest = f"{one.video_id}_self_blend_100.mp4"
    assert name_flaw(longest) is None
    assert longest[0] not in ".-"


def test_missing_footage_and_a_chunk_amid_footage_are_refused(tmp_path):
    folder = touch(tmp_path, "a/x.mp4")
    with pytest.raises(DatasetError, match="nothing is there"):
        find(folder / "gone")
    for chunk in (folder, folder / "a/chunk"):
        with pytest.raises(DatasetError, match="one lies in the other"):
            find(folder / "a", chunk=chunk)


# ---------------------------------------------------------------- the plan


def people(count, clips=1):
    face = Face(25.0, [64, 64], [[]], (0, []), 1, "")
    return [
        Donor(Footage(Path(f"{p}/{c}.mp4"), f"{100 * p + c:08x}" * 8, f"p{p}"), face)
        for p in range(count)
        for c in range(clips)
    ]


def test_both_methods_come_equally_often_and_a_swap_has_a_stranger_as_donor():
    for one, fakes in plan_fakes(people(7, clips=3), settings(fakes_per_video=4)):
        assert Counter(f.method for f in fakes) == {"self_blend": 2, "face_swap": 2}
        assert len({f.file for f in fakes}) == 4
        for made in fakes:
            assert (made.donor is None) == (made.method == "self_blend")
            if made.donor:
                assert made.donor.footage.source_id != one.footage.source_id


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_people_swap_within_small_circles_so_that_a_split_can_part_them(count):
    circles = {f"p{n}": {f"p{n}"} for n in range(count)}
    plan = plan_fakes(people(count, clips=4), settings(method="face_swap", fakes_per_video=5))
    for one, fakes in plan:
        for made in fakes:
            circles[one.footage.source_id].add(made.donor.footage.source_id)
    for person, circle in circles.items():
        assert 2 <= len(circle) <= 3
        assert all(circles[other] <= circle for other in circle), person
    assert sum(len(circle) == 3 for circle in circles.values()) == 3 * (count % 2)


def test_who_is_alone_is_blended_with_himself():
    [(_, fakes)] = plan_fakes(people(1), settings())
    assert [made.method for made in fakes] == ["self_blend"] * 2


def test_a_plan_is_the_seeds_and_not_the_orders():
    plan = plan_fakes(people(6, clips=2), settings())
    assert plan_fakes(people(6, clips=2)[::-1], settings()) == plan
    assert plan_fakes(people(6, clips=2), settings(seed=2)) != plan


# ---------------------------------------------------------------- a chunk of two people


@pytest.fixture(scope="session")
def made(tmp_path_factory, make_video):
    """Return the chunk of two people's footage and four bad files; the footage; the outcomes."""
    folder = tmp_path_factory.mktemp("fake")
    for person, file in (("ana", "again.mkv"), ("bo", "want.mkv")):
        (folder / "footage" / person).mkdir(parents=True)
        shutil.copy(SOURCES / "sign_language" / file, folder / "footage" / person / "clip.mkv")
    shutil.copy(folder / "footage/ana/clip.mkv", folder / "footage/bo/twin.mkv")
    (folder / "footage/bo/broken.mp4").write_text("no video")
    (folder / "footage/bo/empty.mp4").touch()
    make_video(folder / "footage/bo/nobody.mp4", frames=20)
    footage = find(folder / "footage", chunk=folder / "chunk", person_from_folder=True)
    outcomes = list(make_chunk(footage, folder / "chunk", settings(), workers=2))
    return folder / "chunk", footage, outcomes


def read(path):
    return np.stack([frame.rgb_HWC() for frame in read_frames(path)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(chunk):
    return json.loads((chunk / "metadata.json").read_text())


@pytest.mark.slow
def test_every_usable_file_becomes_a_real_video_and_its_fakes(made):
    chunk, footage, outcomes = made
    assert len(outcomes) == 2 * len(footage)  # as the progress bar counts
    rows = rows_of(chunk)
    assert {path.name for path in chunk.iterdir()} == {*rows, "metadata.json", ".fake.jsonl"}
    real = {row["source"]: name for name, row in rows.items() if row["label"] == "REAL"}
    assert set(real) == {"ana", "bo"}
    for source, other in (("ana", "bo"), ("bo", "ana")):
        fakes = [row for row in rows.values() if row.get("original") == real[source]]
        assert {row["method"]: row.get("donors") for row in fakes} == {
            "self_blend": None, "face_swap": [other],
        }  # fmt: skip
        assert all((row["label"], row["source"]) == ("FAKE", source) for row in fakes)
    with archive.open_chunk(chunk) as files:
        entries = datasets.read(files)
    assert {entry.donors for entry in entries} == {(), ("ana",), ("bo",)}
    assert sorted(entry.source_id for entry in entries) == ["ana"] * 3 + ["bo"] * 3


@pytest.mark.slow
def test_what_is_left_out_is_named_with_its_reason_and_counted(made):
    _, _, outcomes = made
    reasons = {o.footage.path.name: o.reason for o in outcomes if o.reason}
    assert reasons == {
        "broken.mp4": "not_a_video", "empty.mp4": "empty", "nobody.mp4": "no_face",
        "twin.mkv": "duplicate",
    }  # fmt: skip
    lines = remarks(outcomes)
    assert len(lines) == 4
    assert all(any(name in line for line in lines) for name in reasons)
    table = dict(line.rsplit(maxsplit=1) for line in summarise(outcomes).splitlines())
    assert table == {
        "files of footage": "6", "left out: duplicate": "1", "left out: empty": "1",
        "left out: no_face": "1", "left out: not_a_video": "1", "people": "2", "real videos": "2",
        "fakes: face_swap": "2", "fakes: self_blend": "2",
    }  # fmt: skip


@pytest.mark.slow
def test_a_fake_is_encoded_as_its_original_and_says_what_it_is(made):
    chunk, _, _ = made
    for name, row in rows_of(chunk).items():
        with av.open(str(chunk / name)) as container:
            comment = container.metadata["comment"]
            assert not container.streams.audio
        if row["label"] == "REAL":
            assert comment == "not manipulated; made from clip.mkv by unmask fake"
            continue
        assert comment == f"MANIPULATED ({row['method']}); made from clip.mkv by unmask fake"
        real, forged = chunk / row["original"], chunk / name
        assert probe(real) == probe(forged)
        assert read(real).shape == read(forged).shape
        assert 0.9 < forged.stat().st_size / real.stat().st_size < 1.1


@pytest.mark.slow
def test_a_fake_differs_around_the_face_alone_and_there_in_every_frame(made):
    chunk, footage, _ = made
    resumed = [json.loads(line) for line in (chunk / ".fake.jsonl").read_text().splitlines()]
    faces = {row["name"]: row["facts"]["face"] for row in resumed}
    for name, row in rows_of(chunk).items():
        if row["label"] == "REAL":
            continue
        face = Face(**faces[f"{Path(row['original']).stem} face"])
        real, forged = read(chunk / row["original"]), read(chunk / name)
        height, width = real.shape[1:3]
        y, x = np.indices((height, width))
        for tick, (one, other) in enumerate(zip(real, forged, strict=True)):
            points = face.points_at(tick)
            centre, eyes = points.mean(axis=0), np.linalg.norm(points[1] - points[0])
            away = np.hypot(x - centre[0], y - centre[1]) / eyes
            # Averaged over 8 x 8 pixels, as both are encoded on their own.
            off = np.abs(cv2.blur(one.astype(np.float32) - other, (8, 8))).max(axis=2)
            assert off[away < 1].max() > 5
            # The outline reaches 1.26 eye distances, a tenth more where it is deformed; its edge
            # fades over three times 0.09; then codec blocks.
            assert off[away > 2.2].mean() < 1
    # The real video is the footage, encoded anew.
    for one in footage[:1]:
        own = read(one.path)[: len(read(chunk / f"{one.video_id}.mp4"))]
        assert np.abs(own.astype(int) - read(chunk / f"{one.video_id}.mp4")).mean() < 4


MAKE = """
import pickle, sys
from unmask.forgeries.fake import make_chunk
arguments = pickle.loads(sys.stdin.buffer.read())
print(len(list(make_chunk(*arguments, workers=1))))
"""


@pytest.mark.slow
def test_a_killed_run_is_taken_up_and_ends_in_the_same_bytes_whatever_the_workers(made, tmp_path):
    chunk, footage, _ = made
    arguments = pickle.dumps((footage, tmp_path, settings()))

    def make_until(is_time):
        run = subprocess.Popen([sys.executable, "-c", MAKE], stdin=-1, stdout=-1)
        run.stdin.write(arguments)
        run.stdin.close()
        while not is_time() and run.poll() is None:
            time.sleep(0.002)
        workers = psutil.Process(run.pid).children() if run.poll() is None else []
        run.kill()
        printed = run.stdout.read()
        run.stdout.close()
        assert not psutil.wait_procs(workers, timeout=20)[1]
        return run.wait(), printed

    # The last file that the first video gets.
    [first] = sorted(chunk.glob("*_1.mp4"))[:1]
    first = tmp_path / first.name
    assert make_until(first.exists)[0] == -signal.SIGKILL
    assert not (tmp_path / "metadata.json").exists()
    before = first.stat().st_ino
    assert make_until(lambda: False) == (0, b"12\n")
    assert first.stat().st_ino == before
    assert contents(tmp_path) == contents(chunk)


@pytest.mark.slow
def test_another_run_replaces_what_changed_and_keeps_the_rest(made, tmp_path):
    original, footage, _ = made
    chunk = tmp_path / "chunk"
    shutil.copytree(original, chunk)
    real = f"{footage[0].video_id}.mp4"
    before = {path.name: path.stat().st_ino for path in chunk.iterdir()}
    list(make_chunk(footage, chunk, settings(), workers=1))
    after = {path.name: path.stat().st_ino for path in chunk.iterdir()}
    assert all(after[name] == before[name] for name in rows_of(chunk))
    assert contents(chunk) == contents(original)
    # One person, one fake: the other one's videos go, a stranger's file stays.
    (chunk / "notes.txt").write_text("mine")
    alone = settings(fakes_per_video=1, seed=2)
    list(make_chunk(footage[:1], chunk, alone, workers=1))
    blend = f"{footage[0].video_id}_self_blend_0.mp4"
    assert set(contents(chunk)) == {
        real, blend, "metadata.json", ".fake.jsonl", "notes.txt",
    }  # fmt: skip
    swaps = settings(method="face_swap")
    kept = contents(chunk)
    with pytest.raises(DatasetError, match="usable footage of one person"):
        list(make_chunk(footage[:1], chunk, swaps, workers=1))
    assert contents(chunk) == kept


@pytest.mark.slow
def test_footage_that_went_away_between_the_passes_is_tried_again(made, tmp_path):
    original, footage, _ = made
    chunk = tmp_path / "chunk"
    shutil.copytree(original, chunk)
    [ana, bo] = [one for one in footage if one.path.name == "clip.mkv"]
    aside = ana.path.with_suffix(".aside")
    ana.path.rename(aside)
    blends = settings(method="self_blend")
    try:
        outcomes = list(make_chunk([ana, bo], chunk, blends, workers=1))
    finally:
        aside.rename(ana.path)
    assert [o.reason for o in outcomes if o.footage == ana] == [None, "gone"]
    assert {row["source"] for row in rows_of(chunk).values()} == {"bo"}
    again = list(make_chunk([ana, bo], chunk, blends, workers=1))
    assert not any(outcome.reason for outcome in again)
    assert set(rows_of(chunk)) == {path.name for path in chunk.glob("*.mp4")}


# ---------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(main, ["fake", *map(str, arguments)])


def test_without_consent_nothing_is_made(tmp_path):
    touch(tmp_path, "a/x.mp4")
    done = run(tmp_path / "a", "--chunk", tmp_path / "chunk")
    assert done.exit_code == 1
    assert "add --consented" in done.output
    assert not (tmp_path / "chunk").exists()


def test_a_folder_of_somebody_elses_and_a_range_upside_down_are_refused(tmp_path):
    touch(tmp_path, "a/x.mp4", "chunk/thesis.txt")
    asked = tmp_path / "a", "--chunk", tmp_path / "chunk", "--consented"
    done = run(*asked)
    assert (done.exit_code, "did not make" in done.output) == (1, True)
    done = run(*asked, "--crf", 30, 20)
    assert (done.exit_code, "lower end first" in done.output) == (1, True)
    done = run(tmp_path / "a", "--chunk", tmp_path / "chunk/thesis.txt", "--consented")
    assert (done.exit_code, "a file is there" in done.output) == (1, True)
    assert {path.name for path in (tmp_path / "chunk").iterdir()} == {"thesis.txt"}


@pytest.mark.slow
def test_footage_without_any_face_is_an_error_that_says_why(tmp_path):
    done = run(touch(tmp_path / "a", "x.mp4"), "--chunk", tmp_path / "chunk", "--consented")
    assert done.exit_code == 1
    assert "x.mp4: not_a_video" in done.output
    assert not (tmp_path / "chunk/metadata.json").exists()


def test_a_folder_without_videos_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    done = run(tmp_path / "a", "--chunk", tmp_path / "chunk", "--consented")
    assert (done.exit_code, "no video file" in done.output) == (1, True)
