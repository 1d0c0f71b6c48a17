"""The opener, on painted samples and on those it makes itself."""

import importlib.util
from pathlib import Path

import pytest
import substratools

from unmask.federated.samples import read_videos
from unmask.federated.synthetic_samples import FRAMES, SIDE_PX, paint_samples
from unmask.video import decode

OPENER = Path(__file__).parents[2] / "federated/dataset/opener.py"


@pytest.fixture(scope="module")
def opener():
    """Return the opener as substratools finds it: the one class of its kind in the file."""
    spec = importlib.util.spec_from_file_location("opener", OPENER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [found] = [
        each for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, substratools.Opener)
        and each is not substratools.Opener
    ]  # fmt: skip
    return found()


def test_fake_data_are_videos_that_can_be_told_apart(opener):
    videos = opener.fake_data(n_samples=2)
    assert videos.names == [f"painted/{kind}{n}" for kind in ("fake", "real") for n in (0, 1)]
    assert videos.labels == [1, 1, 0, 0]
    assert videos.source_ids == ["nobody0", "nobody1"] * 2
    assert [row.record.split for row in videos.rows] == ["train", "validation"] * 2
    for paths, label in zip(videos.paths, videos.labels, strict=True):
        [path] = paths
        frames = [frame.rgb_HWC() for frame in decode.read_frames(path)]
        assert len(frames) == FRAMES
        assert frames[0].shape == (SIDE_PX, SIDE_PX, 3)
        assert (frames[0].max() > 240) == bool(label)


def test_fake_data_without_a_count_can_be_trained_on(opener):
    found = {(row.record.split, row.record.label) for row in opener.fake_data().rows}
    assert found == {(split, label) for split in ("train", "validation") for label in (0, 1)}


def test_the_opener_gives_what_is_in_the_folders_it_is_told(opener, tmp_path):
    folders = paint_samples(tmp_path, 3, splits=("test",))
    told = [str(folder) for folder in reversed(folders[:2])]
    videos = opener.get_data(told)
    assert videos == read_videos(folders[:2])
    assert len(videos.rows) == 4
