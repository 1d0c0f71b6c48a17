"""Official protocols: their files, which videos they call test, and what they ask of a copy."""

import logging
from pathlib import Path

import pytest
from miniatures import MINIATURES, frames, write

from unmask.data import archive, datasets
from unmask.data.protocols import protocol as protocols
from unmask.data.protocols.rules import digest_of
from unmask.data.protocols.selection import Selection, select
from unmask.errors import DatasetError

# Which videos of each miniature are test, worked out by hand from its lists.
TESTS = {
    "Celeb-DF": (
        "celeb-df-v2",
        {"YouTube-real_00000.mp4", "Celeb-synthesis_id0_id1_0000.mp4"},
        set(),
    ),
    "FaceForensics++": (
        "faceforensics",
        {"youtube_c23_000.mp4", "Deepfakes_c23_000_003.mp4"},
        # Two originals, and two directions by four methods, without the two that are there.
        {"youtube/003", "Deepfakes/003_000"}
        | {f"{m}/{p}" for m in ("Face2Face", "FaceSwap", "NeuralTextures")
           for p in ("000_003", "003_000")},
    ),
    "DFDC test set": ("dfdc-test", {"aassnaulhq.mp4", "aayfryxljh.mp4"}, set()),
    "DeeperForensics-1.0": (
        "deeperforensics-1.0", {"end_to_end_001_W004.mp4", "target_001.mp4"}, set(),
    ),
    "WildDeepfake": (
        "wilddeepfake", {"real_test_6_54.mov", "fake_test_100_0.mov", "fake_test_100_1.mov"}, set(),
    ),
    "Deepfake-Eval-2024": ("deepfake-eval-2024", {"a1.mp4"}, set()),
    "DeepFakeDetection": (
        "deepfakedetection",
        {"original_01__walking.mp4", "manipulated_01_02__walking__YVGY8LOK.mp4"}, set(),
    ),
    "UADFV": ("uadfv", {"real_0000.mp4", "real_0001.mp4", "fake_0000_fake.mp4"}, set()),
    "DeepfakeBench": (
        "deepfakebench",
        {"CelebDFv2_real_id0_0000.mov", "CelebDFv2_fake_id0_id1_0000.mov"}, set(),
    ),
}  # fmt: skip
NONE = {"DFDC", "FakeAVCeleb", "DF-TIMIT", "manifest", "folders"}


def protocol_of(chunk: Path, name: str | None = None) -> Selection | None:
    """Return which videos of a chunk are test by its protocol."""
    with archive.open_chunk(chunk) as files:
        return select(files, datasets.read(files), name)


def test_each_protocol_has_a_miniature_and_each_layout_is_decided():
    assert {name for name, *_ in TESTS.values()} == protocols.all_protocols().keys()
    assert TESTS.keys() | NONE == MINIATURES.keys()


@pytest.mark.parametrize("layout", TESTS)
def test_the_test_videos_of_each_layout(tmp_path, layout):
    name, files, missing = TESTS[layout]
    found = protocol_of(write(tmp_path / "chunk", MINIATURES[layout]))
    assert (found.protocol.name, found.files, set(found.missing)) == (name, files, missing)
    assert found.named == len(files) + len(missing)


@pytest.mark.parametrize("layout", sorted(NONE))
def test_what_has_no_official_list_has_no_protocol(tmp_path, layout):
    assert protocol_of(write(tmp_path / "chunk", MINIATURES[layout])) is None


def test_a_video_that_the_list_names_and_nobody_has_is_counted(tmp_path, caplog):
    files = dict(MINIATURES["Celeb-DF"])
    del files["YouTube-real/00000.mp4"]
    found = protocol_of(write(tmp_path / "chunk", files))
    assert found.missing == ("YouTube-real/00000",)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert lines[0].endswith(
        "1 of 2 test videos of celeb-df-v2 are not there: 'YouTube-real/00000'"
    )
    assert "it has 2 test videos by its own list, and celeb-df-v2 has 518: a part" in lines[1]


def test_frames_are_test_videos_too(tmp_path):
    paths = [*frames("Celeb-real/frames/id0_0000"), *frames("YouTube-real/frames/00000")]
    files = dict.fromkeys(paths, "") | {"List_of_testing_videos.txt": "1 YouTube-real/00000.mp4"}
    found = protocol_of(write(tmp_path / "chunk", files))
    assert found.files == {"YouTube-real_frames_00000.mov"}


def test_a_compression_more_gives_each_video_once_more(tmp_path):
    files = dict(MINIATURES["FaceForensics++"])
    files |= {path.replace("c23", "c40"): "" for path in files if "c23" in path}
    found = protocol_of(write(tmp_path / "chunk", files))
    assert len(found.files) == 4
    assert found.named == 10  # still two originals and eight fakes


@pytest.mark.parametrize(
    ("layout", "changed", "complaint"),
    [
        ("Celeb-DF", {"List_of_testing_videos.txt": None}, "there is no such file. Take it from"),
        ("FaceForensics++", {"splits/test.json": None}, r"there is no splits/test\.json"),
        ("FaceForensics++", {"splits/test.json": '[["000", "003", "1"]]'}, "where .* should stand"),
        ("DeeperForensics-1.0", {"lists/splits/test.txt": None}, "no such file. Unpack its lists"),
        (
            "Deepfake-Eval-2024",
            {"video-metadata-publish-with-links.csv": "Filename,Video Ground Truth\na1.mp4,Real\n"},
            "none of its 1 videos is called test",
        ),
        (
            "Celeb-DF",
            {"List_of_testing_videos.txt": "1 YouTube-real/00009.mp4"},
            "it names 1, and the chunk holds none of them, such as 'YouTube-real/00009'",
        ),
    ],
)
def test_a_list_that_is_missing_or_bad_gets_one_error(tmp_path, layout, changed, complaint):
    files = MINIATURES[layout] | changed
    chunk = write(tmp_path / "chunk", {p: text for p, text in files.items() if text is not None})
    with pytest.raises(DatasetError, match=complaint) as caught:
        protocol_of(chunk)
    assert str(chunk) in str(caught.value)


def test_a_protocol_is_asked_for_by_name(tmp_path):
    chunk = write(tmp_path / "chunk", MINIATURES["Celeb-DF"])
    assert protocol_of(chunk, "celeb-df-v2").protocol.name == "celeb-df-v2"
    with pytest.raises(DatasetError, match=r"found the layout Celeb-DF, and that protocol"):
        protocol_of(chunk, "dfdc-test")
    with pytest.raises(DatasetError, match="did you mean celeb-df-v2"):
        protocol_of(chunk, "celeb-df-v3")


# Files

GOOD = """
name: x
version: 1
title: X
layouts: [Celeb-DF]
source: Y
rule: all
"""


def test_a_protocol_s_file_is_read():
    assert protocols.read_protocol(GOOD, "x.yaml").expected.videos is None


@pytest.mark.parametrize(
    "bad",
    ["[", "1", GOOD + "more: 1\n", GOOD.replace("rule: all", "rule: some"),
     GOOD.replace("version: 1", "version: 0"), GOOD + "list_sha256: abc\n",
     GOOD.replace("Celeb-DF", "Celeb"), GOOD.replace("name: x", "name: y"),
     GOOD + "expected: {videos: -1}\n", GOOD + "expected: {videos: '518'}\n"],
)  # fmt: skip
def test_a_protocol_in_another_form_is_refused(bad):
    with pytest.raises(DatasetError, match=r"Asked for the protocol of x\.yaml") as caught:
        protocols.read_protocol(bad, "x.yaml")
    assert "\n" not in str(caught.value)


def test_counts_of_classes_add_up():
    for protocol in protocols.all_protocols().values():
        expected = protocol.expected
        if expected.real and expected.fake:
            assert expected.real + expected.fake == expected.videos


def test_a_list_s_digest_is_of_its_entries():
    # printf 'a\nb\n' | sha256sum
    wanted = "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"
    assert digest_of(["b", "a"]) == wanted
