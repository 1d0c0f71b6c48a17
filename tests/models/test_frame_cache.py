import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from waiting import wait_until

from unmask import params
from unmask.errors import DatasetError, DiskError, UnmaskError
from unmask.geometry import clip_geometry
from unmask.models import frame_cache
from unmask.models.backbones import BACKBONES
from unmask.models.clip_times import read_clips
from unmask.models.clips import ClipDataset, ClipItem, EpochSampler, clip_items, read_cached
from unmask.models.frame_cache import Track
from unmask.params import Augment
from unmask.records import Chunk, FaceTrack, VideoFaces, VideoRecord
from unmask.runtime.disk import sole_writer
from unmask.video.decode import read_frames

Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]
SIDE, FRAMES = 64, 20
SMALL_BYTES = 128 + FRAMES * SIDE * SIDE * 3  # a header of NumPy's, then the frames
ALL = Augment(flip=0.5, colour=0.5, compress=0.5, blur=0.5, resize=0.5, shift_ratio=0.1)


def paint(seed: int, index: int, size: tuple[int, int]) -> Picture:
    """Return a coloured picture that moves from frame to frame."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return np.roll(small.repeat(8, axis=0).repeat(8, axis=1), 3 * index, axis=1)


def made_chunk(folder: Path, make_video: MakeVideo, *, side: int, frames: int) -> Chunk:
    """Return a chunk of four videos, a face each: three of train, one of test."""
    records, found = [], {}
    times_T = tuple(round(tick / 10, 4) for tick in range(frames))
    box, points = (0.0, 0.0, 100.0, 100.0), ((30, 40), (70, 40), (50, 60), (35, 80), (65, 80))
    for seed, split in enumerate(("train", "train", "validation", "test")):
        name = f"v{seed}"
        make_video(
            folder / f"{name}_0.mp4", frames=frames, rate_fps=10, size=(side, side),
            paint=partial(paint, seed),
        )  # fmt: skip
        records.append(VideoRecord(name, f"{name}.mp4", seed % 2, name, "m", split))
        track = FaceTrack(
            0, f"{name}_0.mp4", times_T, (box,) * frames, (1.0,) * frames, (points,) * frames
        )
        found[name] = VideoFaces(name, "", (track,))
    return Chunk("c", records, found, folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Chunk:
    return made_chunk(tmp_path_factory.mktemp("large"), make_video, side=256, frames=55)


@pytest.fixture
def small(tmp_path: Path, make_video: MakeVideo) -> Chunk:
    folder = tmp_path / "faces"
    folder.mkdir()
    return made_chunk(folder, make_video, side=SIDE, frames=FRAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / ".frames"
    made.mkdir()
    return made


def plan(chunk: Chunk, folder: Path, *, most_bytes: int = 10**9) -> frame_cache.Filling:
    return frame_cache.plan(
        frame_cache.tracks_of([chunk]), folder, most_bytes=most_bytes, side_px=SIDE, workers=2
    )


def fill(chunk: Chunk, folder: Path, *, most_bytes: int = 10**9) -> dict[Path, Path]:
    filling = plan(chunk, folder, most_bytes=most_bytes)
    list(filling.write(workers=1))
    return dict(filling.paths)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---------------------------------------------------------------- the same pixels


def test_cached_clips_are_those_that_are_decoded_to_the_bit(large: Chunk, tmp_path: Path) -> None:
    filling = frame_cache.plan(
        frame_cache.tracks_of([large]), tmp_path, most_bytes=10**9, side_px=256, workers=2
    )
    assert len(list(filling.write(workers=2))) == len(filling.paths) == 3
    items = clip_items([large], "train", self_blend=0.5) + clip_items([large], "validation")
    for backbone in BACKBONES:
        geometry = params.load().clips.geometry(backbone)
        for augment in (ALL, None):
            decoded = ClipDataset(items, geometry, augment=augment, seed=3)
            cached = ClipDataset(items, geometry, augment=augment, seed=3, frames=filling.paths)
            for place in [(epoch, item) for epoch in range(3) for item in range(3)]:
                clip, label = cached[place]
                expected, expected_label = decoded[place]
                assert torch.equal(clip, expected), (backbone, augment, place)
                assert label == expected_label


def test_every_frame_is_kept_and_a_clip_shares_nothing_with_its_file(
    small: Chunk, folder: Path
) -> None:
    for crop, path in fill(small, folder).items():
        frames_THWC = np.stack([frame.rgb_HWC() for frame in read_frames(crop)])
        assert frames_THWC.shape == (FRAMES, SIDE, SIDE, 3)
        assert np.array_equal(np.load(path), frames_THWC)
        assert path.stat().st_size == SMALL_BYTES
        clip_THWC = read_cached(path, [3, 3, FRAMES - 1])
        assert np.array_equal(clip_THWC, frames_THWC[[3, 3, FRAMES - 1]])
        clip_THWC[:] = 0
        assert np.array_equal(np.load(path), frames_THWC)


def test_worker_processes_read_the_same_batches(small: Chunk, folder: Path) -> None:
    geometry = clip_geometry("x3d_xs", frames=4, interval_s=0.4, side_px=64)
    items = clip_items([small], "train")

    def batches(frames: dict[Path, Path], workers: int) -> list[torch.Tensor]:
        dataset = ClipDataset(items, geometry, augment=ALL, seed=1, frames=frames)
        sampler = EpochSampler(len(items), shuffle_seed=1)
        return [clips for clips, _ in DataLoader(dataset, 1, sampler=sampler, num_workers=workers)]

    pairs = zip(batches(fill(small, folder), 2), batches({}, 0), strict=True)
    assert [torch.equal(one, other) for one, other in pairs] == [True, True]


# ---------------------------------------------------------------- when it is made anew


def test_what_is_there_is_kept_and_an_interrupted_filling_goes_on(
    small: Chunk, folder: Path
) -> None:
    begun = plan(small, folder)
    assert len(begun.missing) == 3
    writing = begun.write(workers=1)
    first = next(writing)
    writing.close()  # Ctrl-C
    inode = first.stat().st_ino
    (folder / f".{'a' * 64}.npy.{'b' * 16}.partial").write_bytes(b"left by a killed process")
    resumed = plan(small, folder)
    assert [job.path for job in resumed.missing] == [
        j.path for j in begun.missing if j.path != first
    ]
    assert len(list(resumed.write(workers=1))) == 2
    assert first.stat().st_ino == inode
    assert names(folder) == {path.name for path in begun.paths.values()} | {"paths.json"}
    assert not plan(small, folder).missing


FILLER = """
import sys
from pathlib import Path
from unmask.models import frame_cache

if __name__ == "__main__":
    folder, *crops = map(Path, sys.argv[1:])
    tracks = [frame_cache.Track(crop, 20) for crop in crops]
    filling = frame_cache.plan(tracks, folder, most_bytes=10**9, side_px=64, workers=1)
    for path in filling.write(workers=1):
        print(path, flush=True)
        sys.stdin.readline()
"""


def test_a_filling_that_was_killed_leaves_whole_files_alone(small: Chunk, folder: Path) -> None:
    crops = [str(track.crop) for track in frame_cache.tracks_of([small])]
    process = subprocess.Popen(
        [sys.executable, "-c", FILLER, str(folder), *crops],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        first = Path(process.stdout.readline().strip())
        process.kill()
    assert first.stat().st_size == SMALL_BYTES
    # The worker ends with its parent; what it was writing then has a hidden name.
    wait_until(lambda: all(path.stat().st_size == SMALL_BYTES for path in folder.glob("[!.]*.npy")))
    resumed = plan(small, folder)
    assert first not in [job.path for job in resumed.missing]
    list(resumed.write(workers=1))
    for crop, path in resumed.paths.items():
        assert np.array_equal(np.load(path)[7], list(read_frames(crop))[7].rgb_HWC())


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "short"])
def test_a_damaged_file_is_written_anew(damage: str, small: Chunk, folder: Path) -> None:
    path = next(iter(fill(small, folder).values()))
    whole = path.read_bytes()
    path.unlink()
    if damage == "short":
        np.save(path, np.zeros((FRAMES - 1, SIDE, SIDE, 3), np.uint8))
    else:
        path.write_bytes({"cut": whole[:-1], "empty": b"", "text": b"frames"}[damage])
    found = plan(small, folder)
    assert [job.path for job in found.missing] == [path]
    list(found.write(workers=1))
    assert path.read_bytes() == whole


def test_a_changed_crop_is_noticed_and_its_old_frames_are_deleted(
    small: Chunk, folder: Path, make_video: MakeVideo
) -> None:
    before = fill(small, folder)
    crop = small.faces_dir / "v1_0.mp4"
    stamp = crop.stat().st_mtime_ns
    crop.unlink()
    make_video(crop, frames=FRAMES, rate_fps=10, size=(SIDE, SIDE), paint=partial(paint, 77))
    os.utime(crop, ns=(stamp, stamp))  # only its content tells
    (folder / "notes.txt").write_text("somebody's")
    found = plan(small, folder)
    assert [job.track.crop for job in found.missing] == [crop]
    assert found.paths[crop] != before[crop]
    assert not before[crop].exists()
    assert {path for name, path in before.items() if name != crop} <= set(found.paths.values())
    list(found.write(workers=1))
    expected = np.stack([frame.rgb_HWC() for frame in read_frames(crop)])
    assert np.array_equal(np.load(found.paths[crop]), expected)
    assert (folder / "notes.txt").exists()


def test_a_crop_that_changes_while_it_is_decoded_is_refused(small: Chunk, folder: Path) -> None:
    found = plan(small, folder)
    shutil.copy(small.faces_dir / "v3_0.mp4", small.faces_dir / "new.mp4")
    os.replace(small.faces_dir / "new.mp4", small.faces_dir / "v0_0.mp4")
    with pytest.raises(DatasetError, match=r"v0_0\.mp4 changed while its frames were decoded"):
        list(found.write(workers=1))
    assert found.paths[small.faces_dir / "v0_0.mp4"].name not in names(folder)
    assert not [name for name in names(folder) if name.endswith("partial")]


def test_two_crops_of_one_content_share_a_file(small: Chunk, folder: Path) -> None:
    shutil.copy(small.faces_dir / "v0_0.mp4", small.faces_dir / "v1_0.mp4")
    paths = fill(small, folder)
    assert len(set(paths.values())) == 2
    assert len(names(folder) - {"paths.json"}) == 2


# ---------------------------------------------------------------- room


@pytest.mark.parametrize(
    ("most_bytes", "kept"),
    [(SMALL_BYTES - 1, 0), (SMALL_BYTES, 1), (3 * SMALL_BYTES - 1, 2), (3 * SMALL_BYTES, 3)],
)
def test_the_limit_is_kept_and_the_rest_is_decoded(
    most_bytes: int, kept: int, small: Chunk, folder: Path
) -> None:
    fill(small, folder)  # with room for all, before
    found = plan(small, folder, most_bytes=most_bytes)
    assert (len(found.paths), found.left_out, found.missing) == (kept, 3 - kept, [])
    assert sum(path.stat().st_size for path in folder.iterdir()) == kept * SMALL_BYTES <= most_bytes
    geometry = clip_geometry("x3d_xs", frames=4, interval_s=0.4, side_px=64)
    items = clip_items([small], "train")
    mixed = ClipDataset(items, geometry, augment=ALL, seed=1, frames=found.paths)
    decoded = ClipDataset(items, geometry, augment=ALL, seed=1)
    assert all(torch.equal(mixed[0, n][0], decoded[0, n][0]) for n in range(2))


def test_more_room_adds_to_what_is_kept(small: Chunk, folder: Path) -> None:
    [one] = fill(small, folder, most_bytes=SMALL_BYTES)
    assert one in fill(small, folder, most_bytes=2 * SMALL_BYTES)


def test_what_the_disk_has_no_room_for_is_refused_before_anything_is_decoded(
    folder: Path, small: Chunk
) -> None:
    track = Track(small.faces_dir / "v0_0.mp4", 10**12)
    found = frame_cache.plan([track], folder, most_bytes=10**20, side_px=SIDE, workers=1)
    with pytest.raises(DiskError, match=r"12288000\.0 GB of decoded frames .* Lower UNMASK_FRAME"):
        next(found.write(workers=1))
    assert names(folder) == set()


@contextmanager
def files_of_at_most(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))  # processes inherit it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing_half_written(
    small: Chunk, folder: Path
) -> None:
    found = plan(small, folder)
    with files_of_at_most(SMALL_BYTES - 1), pytest.raises(DiskError) as refused:
        list(found.write(workers=1))
    assert str(refused.value).count("\n") == 0
    assert "Asked to write into" in str(refused.value)
    assert names(folder) == set()
    list(plan(small, folder).write(workers=1))
    assert len(names(folder)) == 4


# ---------------------------------------------------------------- what is wrong with crops


def test_a_crop_with_fewer_frames_than_its_row_is_named(small: Chunk, folder: Path) -> None:
    track = Track(small.faces_dir / "v0_0.mp4", FRAMES + 1)
    found = frame_cache.plan([track], folder, most_bytes=10**9, side_px=SIDE, workers=1)
    with pytest.raises(DatasetError, match=r"v0_0\.mp4 should hold 21 frames and ends before"):
        list(found.write(workers=1))


def test_a_crop_that_is_gone_is_named(small: Chunk, folder: Path) -> None:
    (small.faces_dir / "v1_0.mp4").unlink()
    with pytest.raises(DatasetError, match=r"v1_0\.mp4; found: No such file"):
        plan(small, folder)


def test_a_crop_that_is_no_video_is_named(small: Chunk, folder: Path) -> None:
    (small.faces_dir / "v1_0.mp4").unlink()
    (small.faces_dir / "v1_0.mp4").write_bytes(b"text")
    with pytest.raises(UnmaskError, match=r"v1_0\.mp4"):
        list(plan(small, folder).write(workers=1))


def test_a_crop_of_larger_pictures_would_take_more_than_was_planned(
    small: Chunk, folder: Path
) -> None:
    track = Track(small.faces_dir / "v0_0.mp4", FRAMES)
    found = frame_cache.plan([track], folder, most_bytes=10**9, side_px=SIDE - 2, workers=1)
    with pytest.raises(DatasetError, match=r"should be 62 pixels wide.*found 64 x 64"):
        list(found.write(workers=1))


def test_frames_that_vanish_during_a_training_are_named(small: Chunk, folder: Path) -> None:
    path = next(iter(fill(small, folder).values()))
    path.unlink()
    with pytest.raises(DatasetError, match=r"Asked for decoded frames .* Start the training again"):
        read_cached(path, [0])


# ---------------------------------------------------------------- one training at a time


def opened(chunk: Chunk, folder: Path, *, most_bytes: int, is_filler: bool = True):
    return frame_cache.opened(
        [chunk], folder, most_bytes=most_bytes, side_px=SIDE, workers=1, is_filler=is_filler,
        show=lambda items, *, total: (item for item, _ in zip(items, range(total), strict=True)),
    )  # fmt: skip


def test_a_training_has_the_folder_for_itself_and_tells_its_further_processes(
    small: Chunk, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    with opened(small, folder, most_bytes=10**9) as frames:
        assert len(frames) == 3
        assert all(path.is_file() for path in frames.values())
        with (
            pytest.raises(DiskError, match="another run is writing there"),
            opened(small, folder, most_bytes=10**9),
        ):
            pass
        with opened(small, folder, most_bytes=10**9, is_filler=False) as told:
            assert told == frames
    with sole_writer(folder):
        pass


def test_without_a_limit_nothing_is_kept(small: Chunk, tmp_path: Path) -> None:
    for is_filler in (True, False):
        with opened(small, tmp_path / "cache", most_bytes=0, is_filler=is_filler) as frames:
            assert frames == {}
    assert not (tmp_path / "cache").exists()


def test_a_further_process_without_a_first_one_says_so(small: Chunk, folder: Path) -> None:
    with (
        pytest.raises(DatasetError, match="which the training's first process fills"),
        opened(small, folder, most_bytes=10**9, is_filler=False),
    ):
        pass


def test_items_of_a_track_are_decoded_where_its_frames_are_not_kept(small: Chunk) -> None:
    crop = small.faces_dir / "v0_0.mp4"
    geometry = clip_geometry("x3d_xs", frames=4, interval_s=0.4, side_px=64)
    times_T = [tick / 10 for tick in range(FRAMES)]
    other = {small.faces_dir / "v1_0.mp4": Path("lost.npy")}
    dataset = ClipDataset([ClipItem(crop, times_T, 0, "v")], geometry, augment=None, seed=1,
                          frames=other)  # fmt: skip
    (expected,) = read_clips(crop, times_T, [(1.9 - geometry.span_s) / 2], geometry)
    clip_CTHW, _ = dataset[0, 0]
    red = (clip_CTHW[0] * 0.225 + 0.45).mul(255).round().to(torch.uint8)
    assert np.array_equal(red, expected[..., 0])
