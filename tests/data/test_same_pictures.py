"""Copies that were encoded anew, and fakes, which differ from their originals in one place."""

import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unmask import params
from unmask.data import near_hashes, same_pictures
from unmask.data.copies import Listing
from unmask.data.fingerprints import hash_video
from unmask.data.same_pictures import find_recoded, shows_nothing_else
from unmask.errors import DatasetError
from unmask.records import Fingerprint, VideoRecord
from unmask.runtime.disk import content_digest
from unmask.video.encode import write_video

Picture = NDArray[np.uint8]
RATE_FPS, SECONDS, SIDE_PX = 8, 3, 160


def scene(seed: int) -> Iterator[Picture]:
    """Yield a picture that moves by a pixel a frame: fields of 20 pixels with soft edges."""
    coarse = np.random.default_rng(seed).integers(40, 200, (12, 12, 3), np.uint8)
    wide = cv2.GaussianBlur(np.kron(coarse, np.ones((20, 20, 1), np.uint8)), (0, 0), 3)
    for index in range(RATE_FPS * SECONDS):
        yield np.ascontiguousarray(wide[30 : 30 + SIDE_PX, index : index + SIDE_PX])


def film(
    path: Path, *, seed: int = 0, crf: int = 18, levels: int = 0, from_s: float = 0.0,
    gain: float = 1.0, side_px: int = SIDE_PX, frames: int = 99, turn: int = 0,
) -> Path:  # fmt: skip
    """Write the scene; from a time on, a field of 32 x 32 pixels is brighter by so many levels."""
    pictures = []
    for index, picture in enumerate(scene(seed)):
        shown = picture.astype(np.float32)
        if index >= from_s * RATE_FPS:
            shown[60:92, 60:92] += levels
        shown = np.rot90(cv2.resize(shown * gain, (side_px, side_px)), turn)
        pictures.append(np.ascontiguousarray(np.clip(shown, 0, 255).astype(np.uint8)))
    write_video(path, pictures[:frames], rate_fps=RATE_FPS, crf=crf)
    return path


@pytest.mark.parametrize(
    "changes", [{"crf": 23}, {"gain": 1.15}, {"side_px": 120}, {"frames": RATE_FPS * SECONDS - 2}]
)
def test_a_copy_that_was_encoded_anew_shows_the_same(
    changes: dict[str, float], tmp_path: Path
) -> None:
    copy = film(tmp_path / "copy.mp4", **changes)  # type: ignore[arg-type]
    assert shows_nothing_else(film(tmp_path / "a.mp4"), copy)
    assert shows_nothing_else(copy, tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 12},  # three times what a block may differ by
        {"levels": -12},
        {"levels": 12, "from_s": 2.0},  # the last second alone
        {"seed": 1},
        {"turn": 1},
    ],
)
def test_what_differs_in_one_place_or_time_does_not(
    changes: dict[str, float], tmp_path: Path
) -> None:
    other = film(tmp_path / "other.mp4", **changes)  # type: ignore[arg-type]
    assert not shows_nothing_else(film(tmp_path / "a.mp4"), other)
    assert not shows_nothing_else(other, tmp_path / "a.mp4")


def test_the_beginning_of_a_real_video_is_no_fake_but_a_fake_may_begin_as_a_real_one(
    tmp_path: Path,
) -> None:
    whole, part = film(tmp_path / "a.mp4"), film(tmp_path / "b.mp4", frames=RATE_FPS * 2)
    assert shows_nothing_else(fake=part, real=whole)
    assert not shows_nothing_else(fake=whole, real=part)


def listing(chunk: str, folder: Path, labels: dict[str, int]) -> Listing:
    records, prints = [], {}
    for name, label in labels.items():
        records.append(
            VideoRecord(name, f"{name}.mp4", label, "one", ["real", "x"][label], "train")
        )
        pictures = hash_video(folder / f"{name}.mp4")
        prints[name] = Fingerprint(name, content_digest(folder / f"{name}.mp4"), "", pictures)
    return Listing(chunk, records, prints)


def test_only_a_fake_and_a_real_video_are_compared(tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"crf": 22}, "c": {"levels": 20}, "d": {"crf": 20}}.items():
        film(tmp_path / f"{name}.mp4", **changes)  # type: ignore[arg-type]
    rows = listing("c", tmp_path, {"a": 0, "b": 1, "c": 1, "d": 1})
    found = list(find_recoded([rows], {"c": tmp_path}, 0.08, workers=1))
    assert [str(group) for group in found] == [
        "c/a.mp4 REAL = c/b.mp4 FAKE (encoded again)",
        "c/a.mp4 REAL = c/d.mp4 FAKE (encoded again)",
    ]
    assert not list(find_recoded([rows], {"c": tmp_path / "gone"}, 0.08, workers=1))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_real_videos_that_a_fake_is_compared_with_are_those_of_a_plain_loop(
    seed: int, across: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three whose hashes are closest, and of equally close ones the first."""
    monkeypatch.setattr(near_hashes, "_choose_parts", lambda *_: (None, 11)[seed % 2])
    rng, limit = random.Random(seed), 20
    scenes = [rng.getrandbits(256) for _ in range(5)]
    listings = []
    for chunk in ("a", "b"):
        records, prints = [], {}
        for number in range(40):
            name = f"{chunk}{number:02}"
            records.append(VideoRecord(name, f"{name}.mp4", number % 2, name, "m", "train"))
            pictures = dict.fromkeys(
                f"{rng.choice(scenes) ^ (1 << rng.randrange(256)):064x}"
                if rng.random() < 0.8 else rng.randbytes(32).hex()
                for _ in range(rng.randrange(4))
            )  # fmt: skip
            stream = rng.choice(["", "s1", "s2", *(f"{name}{n}" for n in range(5))])
            prints[name] = Fingerprint(name, name, "", tuple(pictures), stream)
        rng.shuffle(records)
        listings.append(Listing(chunk, records, prints))

    videos = [
        (each.chunk, record, each.fingerprints[record.video_id])
        for each in listings if each.fingerprints
        for record in sorted(each.records, key=lambda record: record.file)
    ]  # fmt: skip
    expected = []
    for chunk, fake, own in videos:
        found = []
        for place, (other, real, its) in enumerate(videos):
            bits = [
                (int(one, 16) ^ int(two, 16)).bit_count()
                for one in own.pictures for two in its.pictures
            ]  # fmt: skip
            is_one = own.sha256 == its.sha256 or "" != own.stream == its.stream
            is_passed_over = is_one or (across and chunk == other)
            if not real.label and not is_passed_over and min(bits, default=257) <= limit:
                found.append((min(bits), place, real.video_id))
        expected += [(fake.video_id, name) for _, _, name in sorted(found)[:3] if fake.label]
    pairs = same_pictures._pair_up(listings, limit, across)
    assert [(f.record.video_id, r.record.video_id) for f, r in pairs] == expected
    assert expected


def test_chunks_that_label_one_scene_in_two_ways_are_refused(tmp_path: Path) -> None:
    settings = params.load().raw
    for chunk, crf in (("c", 18), ("d", 21)):
        (tmp_path / chunk / "videos").mkdir(parents=True)
        film(tmp_path / chunk / "videos/a.mp4", crf=crf)
    chunks = [listing(name, tmp_path / name / "videos", {"a": label})
              for name, label in (("c", 0), ("d", 1))]  # fmt: skip
    with pytest.raises(DatasetError, match=r"both REAL and FAKE: c/a.mp4 REAL = d/a.mp4 FAKE \(en"):
        same_pictures.check_across(chunks, tmp_path, settings)
    same_pictures.check_across(chunks[:1], tmp_path, settings)
    same_pictures.check_across(chunks, tmp_path / "elsewhere", settings)
