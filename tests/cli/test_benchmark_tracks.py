"""A benchmark of face tracks, for a model that asks for other crops than the stage made."""

from miniatures import write

from tests.data.test_benchmarks import ALL, watch
from tests.data.test_frame_videos import folder
from tests.data.test_splits import raw
from unmask import params
from unmask.cli import benchmark
from unmask.data import benchmarks
from unmask.runtime.record_files import read_index, write_index


def test_its_pictures_are_taken_whole_whatever_the_margin(tmp_path):
    own = tmp_path / "raw/wild"
    files = folder("real_test/1/real/0", 1) | folder("fake_test/2/fake/0", 2, range(40))
    benchmarks.fill(write(tmp_path / "wild", files), own, raw(), ALL, workers=1, watch=watch)
    write_index(own / "index.csv", read_index(own / "listed.csv"))
    faces = params.load().faces.model_copy(update={"margin_ratio": 0.4, "side_px": 64})
    chunk = benchmark._crops(
        "wild", own / "index.csv", tmp_path / "faces", tmp_path / "kept", faces, workers=1
    )
    # 40 pictures, 25 a second: 16 ticks. The other track ends after 0.56 s.
    (track,) = chunk.faces["fake_test_2_0"].tracks
    assert set(track.boxes_T4) == {(0, 0, 72, 72)}
    assert len(track.times_T) == 16
    assert chunk.faces["real_test_1_0"].reason == "too_short"
