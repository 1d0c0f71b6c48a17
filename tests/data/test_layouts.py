"""Data sets of others: what each layout's reader makes of a miniature, and what it refuses."""

import json
import logging
import zipfile

import pytest
from miniatures import (
    BENCH_JSON,
    CELEB_FRAMES,
    FAVC_HEADER,
    FAVC_ROWS,
    MINIATURES,
    frames,
    write,
)

from unmask.data import archive, datasets
from unmask.data.archive import PREFERRED
from unmask.data.layouts import frames as frames_module
from unmask.data.layouts.celeb_df import read_testing_list
from unmask.data.layouts.entry import Entry
from unmask.errors import DatasetError


def read(folder, files):
    """Return what is read from a chunk of these files."""
    with archive.open_chunk(write(folder / "chunk", files)) as opened:
        return datasets.read(opened)


def brief(entries):
    """Return what counts of each entry."""
    return {(e.file, e.label, e.source_id, e.method, e.split, e.donors) for e in entries}


def said(caplog, level=logging.INFO):
    """Return the lines that were logged at a level."""
    return [line.getMessage() for line in caplog.records if line.levelno == level]


def without(part, files):
    """Return the files whose paths do not hold a part."""
    return {path: content for path, content in files.items() if part not in path}


# Recognition


@pytest.mark.parametrize("name", MINIATURES)
def test_each_miniature_is_recognised_as_itself(tmp_path, name):
    with archive.open_chunk(write(tmp_path / "chunk", MINIATURES[name])) as files:
        assert datasets.recognise(files) == name


@pytest.mark.parametrize("name", MINIATURES)
def test_each_miniature_is_recognised_in_a_wrapping_folder_and_in_a_zip(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "chunk.zip", "w") as packed:
        for path, content in MINIATURES[name].items():
            packed.writestr(f"my copy/{path}", content)
    with archive.open_chunk(tmp_path / "chunk.zip") as files:
        assert datasets.recognise(files) == name
        # Of Deepfake-Eval-2024's and FakeAVCeleb's videos one each is neither.
        videos = datasets.read(files)
    assert {entry.label for entry in videos} == {0, 1}
    assert all(entry.path and not entry.path.startswith("my copy") for entry in videos)


@pytest.mark.parametrize("one", MINIATURES)
def test_two_layouts_at_once_are_never_guessed(tmp_path, one):
    for number, other in enumerate(MINIATURES):
        if other == one or {one, other} == {"UADFV", "folders"}:  # of one kind: plain folders
            continue
        chunk = write(tmp_path / str(number), MINIATURES[other] | MINIATURES[one])
        names = {"folders" if name == "UADFV" else name for name in (one, other)}
        winner = {name for name in names if names - {name} <= PREFERRED.get(name, set())}
        # DFDC's test set has a metadata.json of its own.
        if "DFDC test set" in names and len(names) == 2 and not winner:
            names = {"DFDC test set", *names}
        with archive.open_chunk(chunk) as files:
            if winner:
                assert {datasets.recognise(files)} == winner
            else:
                with pytest.raises(DatasetError, match="A chunk has one layout"):
                    datasets.recognise(files)


def test_every_layout_has_a_reader_and_a_miniature():
    assert MINIATURES.keys() == datasets.READERS.keys()
    assert archive.LAYOUTS.keys() == datasets.READERS.keys() - {"UADFV"}


# What is read


def test_the_test_set_of_dfdc(tmp_path):
    assert brief(read(tmp_path, MINIATURES["DFDC test set"])) == {
        ("aassnaulhq.mp4", 1, "aassnaulhq", "unknown", "test", ()),
        ("aayfryxljh.mp4", 0, "aayfryxljh", "real", "test", ()),
    }


def test_the_test_set_of_dfdc_as_frames(tmp_path):
    files = {"labels.csv": "filename,label\na.mp4,1\nb.mp4,0\n"}
    files |= dict.fromkeys([*frames("frames/a", (0, 12, 24)), *frames("landmarks/a")], "")
    frames("frames/a", (0, 12, 24))
    a, b = read(tmp_path, files)
    assert (a.file, a.path, a.frames.pictures) == (
        "a.mov",
        "frames/a",
        tuple(frames("frames/a", (0, 12, 24))),
    )
    assert a.frames.is_track
    assert (a.frames.rate_fps, a.frames.ticks) == (10.0, (0, 1, 2))
    assert (b.file, b.frames) == ("b.mp4", None)


def test_deepfakedetection_has_actors_for_sources(tmp_path):
    assert brief(read(tmp_path, MINIATURES["DeepFakeDetection"])) == {
        ("original_01__walking.mp4", 0, "actor 01", "real", "", ()),
        (
            "manipulated_01_02__walking__YVGY8LOK.mp4",
            1,
            "actor 01",
            "DeepFakeDetection",
            "",
            ("actor 02",),
        ),
    }


def test_deeperforensics_has_targets_for_sources_and_actors_for_donors(tmp_path, caplog):
    assert brief(read(tmp_path, MINIATURES["DeeperForensics-1.0"])) == {
        ("end_to_end_000_M101.mp4", 1, "000", "end_to_end", "train", ("M101",)),
        ("end_to_end_001_W004.mp4", 1, "001", "end_to_end", "test", ("W004",)),
        ("target_000.mp4", 0, "000", "real", "train", ()),
        ("target_001.mp4", 0, "001", "real", "test", ()),
    }
    assert not said(caplog, logging.WARNING)


def test_deeperforensics_without_targets_says_what_it_takes_for_real(tmp_path, caplog):
    files = {
        path: text
        for path, text in MINIATURES["DeeperForensics-1.0"].items()
        if "target" not in path
    }
    real = [entry for entry in read(tmp_path, files) if not entry.label]
    assert [(entry.source_id, entry.method) for entry in real] == [("M101", "real")]
    assert "which its authors say are not the real part" in said(caplog, logging.WARNING)[0]


def test_deeperforensics_finds_its_targets_in_faceforensics(tmp_path):
    files = {
        path: text
        for path, text in MINIATURES["DeeperForensics-1.0"].items()
        if "target" not in path
    }
    files["original_sequences/youtube/c23/videos/000.mp4"] = ""
    assert [e.source_id for e in read(tmp_path, files) if not e.label] == ["000"]


def test_fakeavceleb_is_labelled_by_its_pictures(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = "African_men_id00076"
    assert brief(read(tmp_path, MINIATURES["FakeAVCeleb"])) == {
        (f"RealVideo-RealAudio_{folder}_00109.mp4", 0, "id00076", "real", "", ()),
        (
            f"FakeVideo-RealAudio_{folder}_00109_id00476.mp4",
            1,
            "id00076",
            "faceswap",
            "",
            ("id00476",),
        ),
        (
            f"FakeVideo-FakeAudio_{folder}_00109_2_id00166_wavtolip.mp4",
            1,
            "id00076",
            "wav2lip",
            "",
            (),
        ),
    }
    assert any(
        "1 videos left out, of which only the sound is fake" in line for line in said(caplog)
    )


def test_fakeavceleb_counts_a_video_that_is_listed_twice_once(tmp_path, caplog):
    again = FAVC_ROWS.splitlines()[1].replace("faceswap,", "fsgan,") + "\n"
    files = MINIATURES["FakeAVCeleb"] | {"meta_data.csv": FAVC_HEADER + FAVC_ROWS + again}
    methods = {entry.method for entry in read(tmp_path, files)}
    assert methods == {"real", "faceswap", "wav2lip"}
    assert "1 videos are listed twice" in said(caplog, logging.WARNING)[0]


def test_wilddeepfake_has_an_archive_for_a_source(tmp_path):
    entries = read(tmp_path, MINIATURES["WildDeepfake"])
    assert brief(entries) == {
        ("real_test_6_54.mov", 0, "wild real_test 6", "real", "test", ()),
        ("fake_test_100_0.mov", 1, "wild fake_test 100", "WildDeepfake", "test", ()),
        ("fake_test_100_1.mov", 1, "wild fake_test 100", "WildDeepfake", "test", ()),
        ("fake_train_7_0.mov", 1, "wild fake_train 7", "WildDeepfake", "train", ()),
    }
    assert all(entry.frames.is_track and entry.frames.rate_fps == 25.0 for entry in entries)


def test_df_timit_is_read_beside_vidtimit(tmp_path):
    entries = read(tmp_path, MINIATURES["DF-TIMIT"])
    assert brief(entries) == {
        (
            "lower_quality_fadg0_sa1-video-fram1.avi",
            1,
            "timit fadg0",
            "faceswap-GAN lower quality",
            "",
            ("timit fram1",),
        ),
        (
            "higher_quality_fadg0_sa1-video-fram1.avi",
            1,
            "timit fadg0",
            "faceswap-GAN higher quality",
            "",
            ("timit fram1",),
        ),
        ("vidtimit_fadg0_sa1.mov", 0, "timit fadg0", "real", "", ()),
    }
    (real,) = (entry for entry in entries if not entry.label)
    assert (real.frames.is_track, real.frames.rate_fps) == (False, 25.0)


def test_deepfake_eval_leaves_out_what_nobody_knows(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert brief(read(tmp_path, MINIATURES["Deepfake-Eval-2024"])) == {
        ("a1.mp4", 0, "chunk/a1", "real", "Test", ()),
        ("b2.mov", 1, "chunk/b2", "in the wild", "Train", ()),
    }
    assert any("1 videos left out whose pictures are neither" in line for line in said(caplog))


def test_uadfv_pairs_a_fake_with_its_original(tmp_path):
    assert brief(read(tmp_path, MINIATURES["UADFV"])) == {
        ("real_0000.mp4", 0, "uadfv 0000", "real", "", ()),
        ("real_0001.mp4", 0, "uadfv 0001", "real", "", ()),
        ("fake_0000_fake.mp4", 1, "uadfv 0000", "FakeApp", "", ("uadfv actor",)),
    }


def test_deepfakebench_s_list_tells_split_and_frames(tmp_path):
    entries = read(tmp_path, MINIATURES["DeepfakeBench"])
    assert brief(entries) == {
        ("CelebDFv2_real_id0_0000.mov", 0, "id0", "real", "test", ()),
        ("CelebDFv2_fake_id0_id1_0000.mov", 1, "id0", "Celeb-synthesis", "test", ("id1",)),
    }
    real = entries[1]
    assert real.frames.pictures == tuple(frames(CELEB_FRAMES["CelebDFv2_real"], (0, 9, 18)))


def test_deepfakebench_s_compressions_are_read(tmp_path, caplog):
    def video(folder):
        return {"label": "x", "frames": frames(f"/data/{folder}")}

    real = {c: {"000": video(f"original_sequences/youtube/{c}/frames/000")} for c in ("c23", "raw")}
    fake = {"c23": {"000_003": video("manipulated_sequences/Deepfakes/c23/frames/000_003")}}
    said_json = {"FF-DF": {"FF-real": {"train": real}, "FF-DF": {"train": fake}}}
    files = {"FF-DF.json": json.dumps(said_json)}
    files |= dict.fromkeys(frames("original_sequences/youtube/c23/frames/000"), "")
    files |= dict.fromkeys(frames("manipulated_sequences/Deepfakes/c23/frames/000_003"), "")
    assert brief(read(tmp_path, files)) == {
        ("FF-real_c23_000.mov", 0, "000", "real", "train", ()),
        ("FF-DF_c23_000_003.mov", 1, "000", "Deepfakes", "train", ("003",)),
    }
    assert said(caplog, logging.WARNING) == [
        f"FF-DF.json of {tmp_path / 'chunk'}: left out, because a compression that one class lacks "
        "would tell the label: 'raw'"
    ]


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (
            "original_sequences/youtube/c23/frames/000",
            "manipulated_sequences/FaceSwap/c23/frames/000_003",
        ),
        ("Celeb-real/frames/id0_0000", "Celeb-synthesis/frames/id0_id1_0000"),
        ("target_videos/frames/000", "manipulated_videos/end_to_end/frames/000_M101"),
        ("real/frames/0000", "fake/frames/0000_fake"),
        ("DFD_original_sequences/frames/01__a", "DFD_manipulated_sequences/frames/01_02__a__X"),
        ("real/ann", "fake/swap/ann"),
    ],
)
def test_frames_are_read_in_the_places_of_videos(tmp_path, real, fake):
    paths = [
        *frames(real, (3, 4, 7)),
        *frames(fake, (0, 9)),
        *frames(f"{real}/masks".replace("frames", "masks")),
    ]
    entries = {entry.label: entry for entry in read(tmp_path, dict.fromkeys(paths, ""))}
    assert entries[0].path == real
    assert entries[1].path == fake
    assert entries[0].frames.ticks == (0, 1, 4)  # 5 and 6 are missing: 4 stays on screen
    assert entries[1].frames.ticks == (0, 1)
    assert all(entry.file.endswith(".mov") for entry in entries.values())
    assert len({entry.source_id for entry in entries.values()}) == 1


@pytest.mark.parametrize(
    "top", ["real", "Celeb-real", "manipulated_videos", "fake_test", "VidTIMIT"]
)
def test_pictures_at_the_top_are_no_video_s(tmp_path, top):
    with pytest.raises(DatasetError, match="and no video where it has them"):
        read(tmp_path, dict.fromkeys(frames(top), ""))


def test_videos_come_before_frames_of_the_same(tmp_path):
    paths = ["Celeb-real/videos/id0_0000.mp4", *frames("Celeb-real/frames/id0_0000")]
    (entry,) = read(tmp_path, dict.fromkeys(paths, ""))
    assert (entry.file, entry.frames) == ("Celeb-real_videos_id0_0000.mp4", None)


def test_a_list_may_name_folders_of_frames(tmp_path):
    files = {"manifest.csv": "path,label,source\nclips/a.b,REAL,p\nc.mp4,FAKE,p\nd.mp4,1,p\n"}
    files |= dict.fromkeys([*frames("clips/a.b"), "c.mp4", *frames("frames/c")], "")
    real, fake, gone = sorted(read(tmp_path, files), key=lambda entry: entry.path != "clips/a.b")
    assert (real.file, real.frames.pictures) == ("clips_a.b.mov", tuple(frames("clips/a.b")))
    # A file comes before frames of it.
    assert (fake.file, fake.path, fake.frames) == ("c.mp4", "c.mp4", None)
    assert (gone.file, gone.frames) == ("d.mp4", None)


def test_a_chunk_of_dfdc_as_frames(tmp_path):
    files = {"metadata.json": MINIATURES["DFDC"]["metadata.json"]}
    files |= dict.fromkeys([*frames("frames/a", (0, 9)), *frames("frames/b", (0, 9))], "")
    assert [(e.file, e.path, e.source_id) for e in read(tmp_path, files)] == [
        ("a.mov", "frames/a", "b"), ("b.mov", "frames/b", "b"),
    ]  # fmt: skip


# Order, rate


@pytest.mark.parametrize(
    ("names", "ordered", "ticks", "rate"),
    [
        (["10.png", "9.png", "8.png"], ["8.png", "9.png", "10.png"], (0, 1, 2), 25.0),
        (["f_2_x.jpg", "f_1_x.jpg"], ["f_1_x.jpg", "f_2_x.jpg"], (0, 1), 25.0),
        (["000.png", "009.png", "019.png"], ["000.png", "009.png", "019.png"], (0, 1, 2), 10.0),
        (
            ["0.png", "1.png", "4.png", "5.png"],
            ["0.png", "1.png", "4.png", "5.png"],
            (0, 1, 4, 5),
            25.0,
        ),
        # Another numbering is no gap of days.
        (
            ["0.png", "1.png", "2.png", "99999.png"],
            ["0.png", "1.png", "2.png", "99999.png"],
            (0, 1, 2, 3),
            25.0,
        ),
        (["b.png", "a.png"], ["a.png", "b.png"], (0, 1), 25.0),
        (["01.png", "1.png", "2.png"], ["01.png", "2.png"], (0, 1), 25.0),
    ],
)
def test_frames_are_in_the_order_of_their_numbers(names, ordered, ticks, rate):
    found = frames_module.in_order(names, frames_module.Settings())
    assert (list(found.pictures), found.ticks, found.rate_fps) == (ordered, ticks, rate)
    assert found.left_out == len(names) - len(ordered)


@pytest.mark.parametrize(
    ("said_json", "rate", "is_track"),
    [("{}", 25.0, True), ('{"rate_fps": 30}', 30.0, True), ('{"faces": "search"}', 25.0, False)],
)
def test_a_chunk_s_owner_says_what_its_frames_are(tmp_path, said_json, rate, is_track):
    (entry,) = read(tmp_path, dict.fromkeys(frames("real/a"), "") | {"frames.json": said_json})
    assert (entry.frames.rate_fps, entry.frames.is_track) == (rate, is_track)


@pytest.mark.parametrize(
    "bad",
    [
        "[]",
        '{"rate": 3}',
        '{"rate_fps": 0}',
        '{"rate_fps": "25"}',
        '{"rate_fps": true}',
        '{"rate_fps": 1e9}',
        '{"rate_fps": NaN}',
        '{"faces": "none"}',
        "{",
    ],
)
def test_a_bad_frames_json_is_refused(tmp_path, bad):
    with pytest.raises(DatasetError, match=r"frames\.json of .*chunk"):
        read(tmp_path, dict.fromkeys(frames("real/a"), "") | {"frames.json": bad})


# What is refused


DIRECTORY = "FakeAVCeleb/FakeVideo-FakeAudio/African/men/id1"
FOLDER = f"FakeVideo-FakeAudio,African,men,a.mp4,{DIRECTORY}"
BAD = {
    "a test set of DFDC without its list's columns": (
        "DFDC test set",
        {"labels.csv": "name,label\na.mp4,1\n"},
        "no column filename",
    ),
    "a label that is none": (
        "DFDC test set",
        {"labels.csv": "filename,label\na.mp4,2\n"},
        "label should be 0 or 1, is '2'",
    ),
    "a path for a name": (
        "DFDC test set",
        {"labels.csv": "filename,label\n../a.mp4,1\n"},
        "should be a plain file name",
    ),
    "a name twice": (
        "DFDC test set",
        {"labels.csv": "filename,label\na.mp4,1\na.mp4,0\n"},
        "'a.mp4' is there twice",
    ),
    "an empty list": ("DFDC test set", {"labels.csv": "filename,label\n"}, "it lists none"),
    "a list that is no text": ("DFDC test set", {"labels.csv": b"filename,label\n\xff"}, "not CSV"),
    "a short row": (
        "DFDC test set",
        {"labels.csv": "filename,label\na.mp4\n"},
        "has 1 values for 2",
    ),
    "a column twice": (
        "DFDC test set",
        {"labels.csv": "filename,label,label\na.mp4,1,0\n"},
        "label twice",
    ),
    "an actor's video among the fakes": (
        "DeepFakeDetection",
        {"DFD_manipulated_sequences/01__walking.mp4": ""},
        "01_02__scene__ABC",
    ),
    "a sequence of FaceForensics++ among the actors": (
        "DeepFakeDetection",
        {"DFD_original_sequences/000.mp4": ""},
        "should be a name like 01__sc",
    ),
    "a manipulated video without an actor": (
        "DeeperForensics-1.0",
        {"manipulated_videos/end_to_end/000.mp4": ""},
        "000_M101.mp4",
    ),
    "a target that is none": (
        "DeeperForensics-1.0",
        {"target_videos/holiday.mp4": ""},
        "a target's name like 000.mp4",
    ),
    "a list's line that is no name": (
        "DeeperForensics-1.0",
        {"lists/splits/val.txt": "x y\n"},
        r"line 1: 'x y' is not like",
    ),
    "a video in two lists": (
        "DeeperForensics-1.0",
        {"lists/splits/val.txt": "000_M101.mp4\n"},
        "is in train too",
    ),
    "a type that is none": (
        "FakeAVCeleb",
        {"meta_data.csv": FAVC_HEADER + f"id1,-,-,x,D,Fake,African,men,a.mp4,{DIRECTORY}\n"},
        "type should be like RealVideo-RealAudio, is 'Fake'",
    ),
    "a way out of the folder": (
        "FakeAVCeleb",
        {"meta_data.csv": FAVC_HEADER + f"id1,-,-,x,D,{FOLDER}/../..\n"},
        "should be the path of a video",
    ),
    "a source that is none": (
        "FakeAVCeleb",
        {"meta_data.csv": FAVC_HEADER + f"a|b,-,-,x,D,{FOLDER}\n"},
        "source should be like id00076",
    ),
    "fakes of TIMIT elsewhere": (
        "DF-TIMIT",
        {"lower_quality/fadg0/sa1.avi": ""},
        "higher_quality/fadg0/sa1-video-fram1.avi",
    ),
    "a word of its own for a label": (
        "Deepfake-Eval-2024",
        {"video-metadata-publish-with-links.csv": "Filename,Video Ground Truth\na.mp4,Maybe\n"},
        "should be Real, Fake or Unknown, is 'Maybe'",
    ),
    "two tables": (
        "Deepfake-Eval-2024",
        {"video-metadata-publish.csv": "Filename,Video Ground Truth\n"},
        "found video-metadata-publish.csv and video-metadata-publish-with-links.csv",
    ),
    "a list in another form": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": "[]"},
        r"found \[\], not {data",
    ),
    "a label that DeepfakeBench has not": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"CelebDFv3_real": {}}}'},
        "is no label that",
    ),
    "a split that is none": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"DFDC_Real": {"all": {}}}}'},
        "should be a split",
    ),
    "a video without frames": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"DFDC_Real": {"test": {"a": {"b": 1}}}}}'},
        "should be {label, frames}",
    ),
    "frames that are no paths": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"DFDC_Real": {"test": {"a": {"frames": [1]}}}}}'},
        "frames should be a list of paths",
    ),
    "a hostile name": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"DFDC_Real": {"test": {"../a": {"frames": ["x"]}}}}}'},
        "should be a plain file name",
    ),
    "frames that are all elsewhere": (
        "DeepfakeBench",
        {"Celeb-DF-v2.json": '{"x": {"DFDC_Real": {"test": {"a": {"frames": ["/x/y/z/0.png"]}}}}}'},
        "none of 1 is in the chunk, such as '/x/y/z/0.png'",
    ),
    "two lists": ("DeepfakeBench", {"UADFV.json": json.dumps(BENCH_JSON)}, "a chunk has one"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_strange_gets_one_error(tmp_path, case):
    layout, files, complaint = BAD[case]
    with pytest.raises(DatasetError, match=complaint) as caught:
        read(tmp_path, MINIATURES[layout] | files)
    assert str(tmp_path / "chunk") in str(caught.value)
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "missing", "complaint"),
    [
        ("FakeAVCeleb", "meta_data.csv", "Asked for meta_data.csv of .*there is no such file"),
        ("Deepfake-Eval-2024", "video-metadata-publish-with-links.csv", "found no table"),
    ],
)
def test_a_list_that_is_missing_is_asked_for(tmp_path, layout, missing, complaint):
    files = without(missing, MINIATURES[layout])
    with pytest.raises(DatasetError, match=complaint):
        read(tmp_path, files)


def test_archives_that_are_not_unpacked_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"found 1 archives that are not unpacked: .*1\.tar\.gz"):
        read(tmp_path, {"real_train/1.tar.gz": ""})


def test_a_link_among_frames_is_not_followed_out_of_the_chunk(tmp_path, caplog):
    chunk = write(tmp_path / "chunk", dict.fromkeys(frames("real/a"), ""))
    (tmp_path / "secret.png").write_text("mine")
    (chunk / "real/a/003.png").symlink_to(tmp_path / "secret.png")
    with archive.open_chunk(chunk) as files:
        (entry,) = datasets.read(files)
    assert len(entry.frames.pictures) == 3
    assert "1 passed over" in said(caplog, logging.WARNING)[0]


def test_pictures_do_not_count_among_a_chunk_s_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    chunk = write(tmp_path / "chunk", dict.fromkeys(frames("real/a"), ""))
    with archive.open_chunk(chunk) as files:
        assert len(files.sizes) == 3
    monkeypatch.setattr(archive, "MAX_PICTURES", 2)
    with pytest.raises(DatasetError, match="or 2 pictures"), archive.open_chunk(chunk):
        pass


# Celeb-DF's list


def test_celeb_df_s_list_calls_real_1(tmp_path):
    with archive.open_chunk(write(tmp_path / "chunk", MINIATURES["Celeb-DF"])) as files:
        assert read_testing_list(files) == {
            "YouTube-real/00000": 0,
            "Celeb-synthesis/id0_id1_0000": 1,
        }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 YouTube-real/00000.mp4", "1 is real, and 0 is fake"),
        ("1 Celeb-synthesis/id0_id1_0000.mp4", "1 is real, and 0 is fake"),
        ("YouTube-real/00000.mp4", "is not like 1 YouTube-real/00170.mp4"),
        ("1 YouTube-real/../x.mp4", "is not like"),
        ("1 YouTube-real/00001.mp4\n1 YouTube-real/00001.mp4", "line 2: .* is there twice"),
        ("\x1b[2J", "is not like"),
    ],
)
def test_a_bad_line_of_celeb_df_s_list_is_named(tmp_path, line, complaint):
    files = MINIATURES["Celeb-DF"] | {"List_of_testing_videos.txt": line}
    with (
        archive.open_chunk(write(tmp_path / "chunk", files)) as opened,
        pytest.raises(DatasetError, match=complaint) as caught,
    ):
        read_testing_list(opened)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_entries_of_plain_files_are_as_before(tmp_path):
    (fake, real) = read(tmp_path, MINIATURES["folders"])
    assert real == Entry("real_ann.mp4", 0, "chunk/ann", "real", "", "real/ann.mp4")
    assert fake.frames is None
