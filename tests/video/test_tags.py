"""Tags of containers: those that tell how a file was made."""

import av
import pytest

from unmask.video.failures import DecodeError
from unmask.video.tags import read_tags


def tagged(source, path, tags):
    """Write the file's pictures into another container, with tags."""
    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}
    with av.open(str(source)) as old, av.open(str(path), "w", container_options=options) as new:
        new.metadata.update(tags)
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_how_a_file_was_made_is_told_and_by_whom_is_not(tmp_path, make_video, ending):
    source = make_video(tmp_path / "source.mp4", frames=5)
    tags = {
        "software": "<b>Generator 3", "comment": " made up ", "location": "+52+13/", "artist": "Ann"
    }  # fmt: skip
    found = read_tags(tagged(source, tmp_path / f"a.{ending}", tags))
    assert found["encoder"].startswith("Lavf")
    assert (found["software"], found["comment"]) == ("<b>Generator 3", "made up")
    assert not {"location", "artist"} & found.keys()


def test_names_that_every_file_has_are_left_out(tmp_path, make_video):
    found = read_tags(make_video(tmp_path / "a.mp4", frames=5))
    assert "handler_name" not in found


def test_what_is_no_video_is_told_so(tmp_path):
    (tmp_path / "a.mp4").write_text("text")
    with pytest.raises(DecodeError):
        read_tags(tmp_path / "a.mp4")
