"""Chunks made by hand: what is read from them, how they are drawn, split and linked."""

import json
import logging
import zipfile
from pathlib import Path

import pytest

from unmask.data import archive, datasets
from unmask.data.layouts import entry, manifest
from unmask.data.layouts import rows as rows_of_lists
from unmask.data.layouts.entry import Entry
from unmask.errors import DatasetError
from unmask.records import ForgedPart

ROOT = Path(__file__).parents[2]

REAL = {"label": "REAL", "split": "train"}
FAKE = {"label": "FAKE", "split": "train"}


def write_chunk(folder, metadata, *, without=()):
    """Write a DFDC-shaped folder whose videos hold their own names."""
    folder.mkdir(parents=True)
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    (folder / "metadata.json").write_text(text, encoding="utf-8")
    if isinstance(metadata, dict):
        for name in metadata.keys() - set(without):
            (folder / name).write_text(name)
    return folder


def warnings_in(caplog):
    return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]


# Reading


def read(chunk):
    with archive.open_chunk(chunk) as files:
        return datasets.read(files)


@pytest.fixture(params=["folder", "zip"])
def make(request, tmp_path):
    """Return a function that makes a chunk of either kind from the contents of its files."""

    def make(files):
        files = dict.fromkeys(files, "") if not isinstance(files, dict) else files
        folder = tmp_path / "chunk"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if request.param == "folder":
            return folder
        with zipfile.ZipFile(tmp_path / "chunk.zip", "w") as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(tmp_path))
        return tmp_path / "chunk.zip"

    return make


def info_in(caplog):
    return [line.getMessage() for line in caplog.records if line.levelno == logging.INFO]


FORENSICS = [
    "original_sequences/youtube/c23/videos/000.mp4",
    "original_sequences/actors/c23/videos/01__walking.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
    "manipulated_sequences/FaceSwap/c23/000_003.MP4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABCD.mp4",
]


def test_faceforensics_is_read(make, caplog):
    caplog.set_level(logging.INFO)
    passed_over = [
        "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
        "manipulated_sequences/Deepfakes/c23/images/000_003/0000.png",
        "downloaded_videos/-5cGW2n0pEU.mp4",
    ]
    chunk = make(FORENSICS + passed_over)
    path = dict(enumerate(FORENSICS))
    assert read(chunk) == [
        Entry(
            "DeepFakeDetection_c23_01_02__walking__ABCD.mp4", 1, "actor 01", "DeepFakeDetection",
            "", path[4], ("actor 02",),
        ),
        Entry("Deepfakes_c23_000_003.mp4", 1, "000", "Deepfakes", "", path[2], ("003",)),
        Entry("FaceSwap_c23_000_003.MP4", 1, "000", "FaceSwap", "", path[3], ("003",)),
        Entry("actors_c23_01__walking.mp4", 0, "actor 01", "real", "", path[1]),
        Entry("youtube_c23_000.mp4", 0, "000", "real", "", path[0]),
    ]  # fmt: skip
    assert info_in(caplog) == [
        f"{chunk}: FaceForensics++, 5 videos, 2 real and 3 fake; 0 without a file; "
        "3 files not listed, 2 of them videos"
    ]
    assert not warnings_in(caplog)


def test_compressions_that_one_class_lacks_are_left_out(make, caplog):
    apart = [
        "manipulated_sequences/Deepfakes/c40/videos/000_003.mp4",
        "manipulated_sequences/FaceSwap/c40/videos/000_003.mp4",
        "original_sequences/youtube/raw/videos/000.mp4",
    ]
    entries = read(make([*FORENSICS, *apart]))
    assert [entry.path for entry in entries] == [entry.path for entry in read(make(FORENSICS))]
    assert warnings_in(caplog)[0].endswith("tell the label: 2 fake in 'c40', 1 real in 'raw'")


def test_every_compression_that_both_classes_have_is_read(make, caplog):
    both = [
        "manipulated_sequences/Deepfakes/c40/videos/000_003.mp4",
        "original_sequences/youtube/c40/videos/000.mp4",
    ]
    assert len(read(make([*FORENSICS, *both]))) == len(FORENSICS) + 2
    assert not warnings_in(caplog)


def test_classes_without_a_common_compression_are_refused(make):
    paths = ["original_sequences/youtube/raw/videos/000.mp4", FORENSICS[2]]
    with pytest.raises(
        DatasetError, match="no compression of both classes, but 1 fake in 'c23', 1 real in 'raw'"
    ):
        read(make(paths))


def test_real_videos_alone_may_have_any_compression(make):
    paths = [f"original_sequences/youtube/{name}/videos/000.mp4" for name in ("raw", "c23")]
    assert len(read(make(paths))) == 2


def test_videos_beside_the_layout_of_faceforensics_are_named(make, caplog):
    strays = [f"original_sequences/youtube/c23/more/{n}.mp4" for n in range(6)]
    strays.append("manipulated_sequences/000_003.mp4")
    assert len(read(make([*FORENSICS, *strays]))) == len(FORENSICS)
    [said] = warnings_in(caplog)
    assert "7 video files are not at <kind>/<group>/<compression>/videos/<name>.mp4" in said
    assert "'manipulated_sequences/000_003.mp4', 'original" in said
    assert said.endswith(" and 2 more")


def test_faceforensics_without_a_video_in_its_place_says_where_that_is(make):
    paths = ["original_sequences/000.mp4", "manipulated_sequences/x/masks/videos/000_003.mp4"]
    with pytest.raises(
        DatasetError, match=r"none at <kind>/<group>/<compression>/videos/<name>\.mp4, but 'o"
    ):
        read(make(paths))


def test_faceforensics_own_split_is_kept(make):
    lists = {"train": [["000", "003"], ["010", "011"]], "val": [["020", "021"]], "test": []}
    files = dict.fromkeys(FORENSICS, "")
    files |= {f"splits/{split}.json": json.dumps(pairs) for split, pairs in lists.items()}
    files["manipulated_sequences/Deepfakes/c23/videos/021_020.mp4"] = ""
    splits = {entry.source_id: entry.split for entry in read(make(files))}
    assert splits == {"000": "train", "021": "val", "actor 01": ""}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "splits/val.json of .*chunk.* not JSON in UTF-8"),
        (b'[["\xe4", "003"]]', "not JSON in UTF-8"),
        ("{}", "found {} where a list of pairs"),
        ("[[0, 3]]", r"found \[\[0, 3\]\] where a list of pairs"),
        ('["000"]', "where a list of pairs"),
        ('[["003", "000"]]', r"2 problem\(s\): '000': is in train too; '003': is in train too"),
    ],
)
def test_bad_lists_of_pairs_are_refused(make, content, complaint):
    files = dict.fromkeys(FORENSICS, "") | {"splits/train.json": '[["000", "003"]]'}
    with pytest.raises(DatasetError, match=complaint):
        read(make(files | {"splits/val.json": content}))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("original_sequences/youtube/c23/videos/000_003.mp4", "a name like 000.mp4 or 01__scene"),
        ("original_sequences/youtube/c23/videos/holiday.mp4", "a name like 000.mp4 or 01__scene"),
        ("manipulated_sequences/FaceSwap/c23/videos/000.mp4", "a name like 000_003.mp4 or 01_02_"),
        ("manipulated_sequences/FaceSwap/c23/videos/1_2_3.mp4", "a name like 000_003.mp4 or 01_0"),
        (
            "manipulated_sequences/FaceSwap/c23/videos/\u0660_\u0661.mp4",
            "a name like 000_003.mp4 or 01_0",
        ),
        ("manipulated_sequences/real/c23/videos/000_003.mp4", "a fake's method cannot be real"),
    ],
)
def test_names_that_tell_no_sequence_are_refused(make, path, complaint):
    with pytest.raises(DatasetError, match=complaint):
        read(make([*FORENSICS, path]))


def test_celeb_df_is_read(make, caplog):
    caplog.set_level(logging.INFO)
    paths = [
        "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4", "YouTube-real/00000.mp4",
    ]  # fmt: skip
    chunk = make([*paths, "List_of_testing_videos.txt"])
    assert read(chunk) == [
        Entry("Celeb-real_id0_0000.mp4", 0, "id0", "real", "", paths[0]),
        Entry(
            "Celeb-synthesis_id0_id1_0000.mp4", 1, "id0", "Celeb-synthesis", "", paths[1], ("id1",)
        ),
        Entry("YouTube-real_00000.mp4", 0, "youtube 00000", "real", "", paths[2]),
    ]
    assert "List_of_testing_videos.txt is not taken for a split" in info_in(caplog)[0]


def test_names_that_tell_no_person_are_refused(make):
    paths = ["Celeb-real/0.mp4", "Celeb-synthesis/id0_0000.mp4", "YouTube-real/id0_0000.mp4"]
    with pytest.raises(DatasetError, match=r"3 problem\(s\): 'Celeb-real/0.mp4': should be"):
        read(make(["Celeb-real/id0_0000.mp4", *paths]))


def test_folders_are_read(make):
    paths = [
        "real/a.mp4", "real/deep/b.MOV", "fake/a.webm", "fake/blend/a.mp4", "fake/swap/x/c.avi",
        "fake/swap/d.mkv", "fake/swap/e.m4v",
    ]  # fmt: skip
    path = make([*paths, "real/notes.txt", "other/a.mp4", "stray.mp4"])
    entries, chunk = read(path), path.name
    assert {(e.file, e.label, e.source_id, e.method, e.split, e.path) for e in entries} == {
        ("real_a.mp4", 0, f"{chunk}/a", "real", "", paths[0]),
        ("real_deep_b.MOV", 0, f"{chunk}/b", "real", "", paths[1]),
        ("fake_a.webm", 1, f"{chunk}/a", "unknown", "", paths[2]),
        ("fake_blend_a.mp4", 1, f"{chunk}/a", "blend", "", paths[3]),
        ("fake_swap_x_c.avi", 1, f"{chunk}/c", "swap", "", paths[4]),
        ("fake_swap_d.mkv", 1, f"{chunk}/d", "swap", "", paths[5]),
        ("fake_swap_e.m4v", 1, f"{chunk}/e", "swap", "", paths[6]),
    }
    assert [entry.file for entry in entries] == sorted(entry.file for entry in entries)


@pytest.mark.parametrize("ending", sorted(archive.VIDEO_ENDINGS))
def test_every_ending_of_footage_is_a_video(make, ending):
    assert len(read(make([f"real/a{ending}", f"real/b{ending.upper()}"]))) == 2


def test_one_class_of_folders_is_enough_to_read(make):
    assert [entry.label for entry in read(make(["fake/a.mp4"]))] == [1]


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        (["real/a_b.mp4", "real/a/b.mp4"], "another video gets this name too"),
        (["real/a.mp4", "real/a.mov"], "'real/a.mov': another video gets this name too"),
        (["real/a.mp4", "real/A.mp4"], "'real/A.mp4': another video gets this name too"),
        (["real/a|b.mp4"], r"'real/a\|b.mp4': holds \|"),
        (["fake/real/a.mp4"], "a fake's method cannot be real"),
        ([f"real/{'x' * 180}/{'y' * 30}.mp4"], "has more than 200 bytes"),
        (["real/notes.txt"], "layout folders and no video"),
    ],
)
def test_videos_that_would_get_no_plain_name_of_their_own_are_refused(make, paths, complaint):
    with pytest.raises(DatasetError, match=complaint):
        read(make(["fake/x.txt", *paths]))


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        (["real/a.mp4", "metadata.json"], r"found metadata.json \(DFDC\) and real/ \(folders\)"),
        (["manifest.csv", "Celeb-real/id0_0000.mp4"], r"Celeb-real/ \(Celeb-DF\) and manifest.csv"),
        (["a.mp4"], "found 'a.mp4' at its top. There a chunk has metadata.json"),
        (["x/y/real/a.mp4", "z/b.mp4"], r"found 'x/', 'z/' at its top\. .* real/ or fake/"),
        (["real", "a.mp4"], "found 'a.mp4', 'real' at its top"),
        ([], "found nothing at its top"),
    ],
)
def test_a_chunk_has_one_layout(make, tmp_path, paths, complaint):
    (tmp_path / "chunk").mkdir()
    with pytest.raises(DatasetError, match=complaint):
        read(make(paths))


MANIFEST = [
    {"path": "a.mp4", "label": "REAL", "source": "p1", "split": "train"},
    {"path": "deep/b.mp4", "label": "FAKE", "original": "a.mp4", "method": "swap",
     "donors": ["p2", "p3"]},
    {"path": "deep/c.mov", "label": "FAKE", "original": "gone/d.mp4"},
    {"path": "e.mp4", "label": "REAL"},
]  # fmt: skip


def as_csv(rows):
    names = sorted({name for row in rows for name in row})
    cells = [[row.get(name, "") for name in names] for row in rows]
    lines = [names] + [["|".join(c) if isinstance(c, list) else str(c) for c in r] for r in cells]
    return "".join(",".join(line) + "\n" for line in lines)


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n\n" for row in rows)


WRITERS = [("manifest.csv", as_csv), ("manifest.jsonl", as_jsonl)]


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize(
    "number",
    [{}, {"REAL": "0", "FAKE": "1"}, {"REAL": 0, "FAKE": 1}, {"REAL": "real", "FAKE": " Fake "},
     {"REAL": 0.0, "FAKE": 1.0}, {"REAL": "0.0", "FAKE": "1.00"}],
)  # fmt: skip
def test_a_manifest_is_read(make, caplog, name, write, number):
    caplog.set_level(logging.INFO)
    rows = [{**row, "label": number.get(row["label"], row["label"])} for row in MANIFEST]
    rows[0] |= {"camera": "X", "age": "7"}
    chunk = make({name: b"\xef\xbb\xbf" + write(rows).encode(), "a.mp4": "", "deep/b.mp4": ""})
    assert read(chunk) == [
        Entry("a.mp4", 0, "p1", "real", "train", "a.mp4"),
        Entry("deep_b.mp4", 1, "p1", "swap", "", "deep/b.mp4", ("p2", "p3")),
        Entry("deep_c.mov", 1, f"{chunk.name}/gone/d", "unknown", "", "deep/c.mov"),
        Entry("e.mp4", 0, f"{chunk.name}/e", "real", "", "e.mp4"),
    ]
    assert info_in(caplog) == [
        f"{name} of {chunk}: not read: 'age', 'camera'",
        f"{name} of {chunk}: 2 of 4 videos name no source: each recording counts as another "
        "person, and somebody seen in two of them may stand on two sides",
        f"{chunk}: manifest, 4 videos, 2 real and 2 fake; 2 without a file; 0 files not listed, "
        "0 of them videos",
    ]


def test_a_manifest_s_video_that_another_row_names_keeps_its_name(make):
    rows = [
        {"path": "a.mp4", "label": "REAL"},
        {"path": "b.mp4", "label": "REAL"},
        {"path": "c.mp4", "label": "FAKE", "source": "a", "donors": ["b"]},
    ]
    found = {e.file: (e.source_id, *e.donors) for e in read(make({"manifest.csv": as_csv(rows)}))}
    assert found == {"a.mp4": ("a",), "b.mp4": ("b",), "c.mp4": ("a", "b")}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"path": "../a.mp4"}, "should be a path from the manifest down"),
        ({"path": "x/../../a.mp4"}, "should be a path from the manifest down"),
        ({"path": "/etc/passwd"}, "should be a path from the manifest down"),
        ({"path": "x//a.mp4"}, "should be a path from the manifest down"),
        ({"path": "x\\a.mp4"}, "should be a path from the manifest down"),
        ({"path": "a|b.mp4"}, "should be a path from the manifest down"),
        ({"path": "."}, "should be a path from the manifest down"),
        ({"path": ""}, "path should be a word, is None"),
        ({"label": ""}, "label should be REAL or FAKE, is None"),
        ({"label": "true"}, "label should be REAL or FAKE, is 'true'"),
        ({"label": "0.5"}, "label should be REAL or FAKE, is '0.5'"),
        ({"label": "10"}, "label should be REAL or FAKE, is '10'"),
        ({"label": "2"}, "label should be REAL or FAKE, is '2'"),
        ({"source": "p|q"}, r"'p\|q' holds \|"),
        ({"donors": "p||q"}, r"donors should be a list of words, is \['p', '', 'q'\]"),
        ({"method": "x\x00y"}, "method should be a word"),
        ({"split": "\x85"}, "split should be a word"),
        ({"original": "../a.mp4"}, "original '../a.mp4': '../a.mp4' should be a path"),
        ({"path": "good.mp4"}, "'good.mp4' is there twice"),
        ({"path": "good.mov"}, "'good.mov': another video gets this name too"),
        ({"label": "FAKE", "method": "real"}, "a fake's method cannot be real"),
    ],
)
@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_bad_rows_of_a_manifest_are_refused(make, name, write, row, complaint):
    good = {"path": "good.mp4", "label": "REAL"}
    with pytest.raises(DatasetError, match=complaint) as caught:
        read(make({name: write([good, {"path": "a.mp4", "label": "REAL"} | row])}))
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 3: is not JSON in UTF-8"),
        ("[" * 100_000, "line 3: is not JSON in UTF-8"),
        (b'{"path": "\xe4.mp4", "label": 1}', "line 3: is not JSON in UTF-8"),
        ('{"path": "b.mp4", "path": "c.mp4", "label": 1}', "line 3: .* listed twice: 'path'"),
        ("[]", r"line 3: should be an object, is \[\]"),
        ('{"path": 7, "label": 1}', "line 3: path should be a word, is 7"),
        ('{"path": ["b.mp4"], "label": 1}', r"line 3: path should be a word, is \['b.mp4'\]"),
        ('{"path": "b.mp4", "label": true}', "line 3: label should be REAL or FAKE, is True"),
        ('{"path": "b.mp4", "label": [1]}', r"line 3: label should be REAL or FAKE, is \[1\]"),
        ('{"path": "b.mp4", "label": 1, "donors": [1]}', "line 3: donors should be a list of wo"),
        ('{"path": "b.mp4", "label": 1, "donors": ["p|q"]}', r"line 3: 'p\|q' holds \|"),
        ('{"path": "b.mp4", "label": 1, "donors": {}}', "line 3: donors should be a list of wor"),
        ('{"path": "\\ud800.mp4", "label": 1}', "line 3: .* should be a path"),
    ],
)
def test_bad_lines_of_json_are_refused(make, line, complaint):
    content = line if isinstance(line, bytes) else line.encode()
    good = b'{"path": "a.mp4", "label": 0}\n\n'
    with pytest.raises(DatasetError, match=rf"1 problem\(s\): {complaint}"):
        read(make({"manifest.jsonl": good + content}))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", r"found the columns \[\]"),
        ("path;label\na.mp4;REAL\n", r"found the columns \['path;label'\]"),
        ("path,label,label\na.mp4,REAL,FAKE\n", "path and label and each once"),
        ("path,label\n", "lists none. Add a row for each"),
        ("path,label\na.mp4\n", "line 2: more or fewer values"),
        ("path,label\na.mp4,REAL,x\n", "line 2: more or fewer values"),
        ('path,label\n"a.mp4,REAL\n', "not CSV in UTF-8"),
        ("path,label\n" + "x" * 200_000 + ",REAL\n", "not CSV in UTF-8"),
        ("path,label\nä.mp4,REAL\n".encode("latin-1"), "not CSV in UTF-8"),
    ],
)
def test_a_csv_that_is_none_is_refused(make, content, complaint):
    with pytest.raises(DatasetError, match=complaint) as caught:
        read(make({"manifest.csv": content}))
    assert "manifest.csv of " in str(caught.value)


def test_a_manifest_names_five_bad_lines_and_counts_the_rest(make):
    rows = [{"path": f"{n}.mp4", "label": "x"} for n in range(7)]
    with pytest.raises(DatasetError, match=r"7 problem\(s\): line 2: .* line 6: .* and 2 more"):
        read(make({"manifest.csv": as_csv(rows)}))


def test_two_manifests_are_refused(make):
    with pytest.raises(DatasetError, match=r"manifest.csv and manifest.jsonl of .*; a chunk has"):
        read(make({"manifest.csv": as_csv(MANIFEST), "manifest.jsonl": as_jsonl(MANIFEST)}))


@pytest.mark.parametrize("name", ["metadata.json", "manifest.csv", "manifest.jsonl"])
def test_a_list_that_is_too_long_or_too_large_is_refused(make, monkeypatch, name):
    rows = [{"path": f"{n}.mp4", "label": "REAL"} for n in range(3)]
    content = {
        "metadata.json": json.dumps({row["path"]: REAL for row in rows}),
        "manifest.csv": as_csv(rows),
        "manifest.jsonl": as_jsonl(rows),
    }[name]
    chunk = make({name: content})
    monkeypatch.setattr(rows_of_lists, "MAX_FILES", 2)
    with pytest.raises(DatasetError, match=rf"{name} of .* lists more than 2\. Split"):
        read(chunk)
    for module in (entry, manifest):
        monkeypatch.setattr(module, "MAX_METADATA_BYTES", 10)
    with pytest.raises(DatasetError, match=rf"{name} of .* more than 10\. Split"):
        read(chunk)


def test_dfdc_is_read(make, caplog):
    caplog.set_level(logging.INFO)
    listed = {
        "real.mp4": REAL,
        "fake.mp4": {**FAKE, "original": "real.mp4"},
        "fake_of_elsewhere.mp4": {**FAKE, "original": "elsewhere.mp4"},
        "its_twin.mp4": {**FAKE, "original": "elsewhere.mp4", "method": "blend"},
        "orphan.mp4": {**FAKE, "original": None},
        "loner.mp4": {"label": "FAKE"},
        "person.mp4": {"label": "REAL", "source": "p1", "split": "test", "method": "still"},
        "fake_of_person.mp4": {**FAKE, "original": "person.mp4", "split": "validation"},
        "stubborn.mp4": {**FAKE, "original": "person.mp4", "source": "p2", "donors": ["p3", "p4"]},
    }
    files = dict.fromkeys(listed.keys() - {"orphan.mp4", "loner.mp4"}, "")
    files |= {"unlisted.MP4": "", "notes.txt": "", "metadata.json": json.dumps(listed)}
    chunk = make(files)

    def entry(file, *values):
        return Entry(file, *values[:4], file, *values[4:])

    assert read(chunk) == [
        entry("fake.mp4", 1, "real", "unknown", "train"),
        entry("fake_of_elsewhere.mp4", 1, "elsewhere", "unknown", "train"),
        entry("fake_of_person.mp4", 1, "p1", "unknown", "validation"),
        entry("its_twin.mp4", 1, "elsewhere", "blend", "train"),
        entry("loner.mp4", 1, "loner", "unknown", ""),
        entry("orphan.mp4", 1, "orphan", "unknown", "train"),
        entry("person.mp4", 0, "p1", "still", "test"),
        entry("real.mp4", 0, "real", "real", "train"),
        entry("stubborn.mp4", 1, "p2", "unknown", "train", ("p3", "p4")),
    ]
    assert info_in(caplog) == [
        f"metadata.json of {chunk}: 6 of 7 fakes name neither donors nor a source: an actor of "
        "theirs may stand on two sides",
        f"{chunk}: DFDC, 9 videos, 2 real and 7 fake; 2 without a file; 2 files not listed, 1 of "
        "them videos",
    ]
    assert not warnings_in(caplog)


SPELLINGS = ["ann", "ann ", "\ufeffANN", "\u00a0Ann\u200b", "a\u00adnn"]


@pytest.mark.parametrize(
    ("file", "write"),
    [
        *WRITERS,
        ("metadata.json", lambda rows: json.dumps({row["path"]: row for row in rows})),
    ],
)
def test_spellings_of_a_name_are_one_person(make, caplog, file, write):
    rows = [
        {"path": f"{n}.mp4", "label": "FAKE", "source": spelling, "donors": [spelling, "bob"],
         "split": "train ", "method": spelling}
        for n, spelling in enumerate(SPELLINGS)
    ]  # fmt: skip
    chunk = make({file: write([*rows, {"path": "z.mp4", "label": "REAL", "source": "BOB"}])})
    found = read(chunk)
    assert {(e.source_id, e.donors, e.method, e.split) for e in found[:-1]} == {
        ("ann", ("ann", "bob"), "ann", "train")
    }  # fmt: skip
    assert found[-1].source_id == "bob"
    [said] = warnings_in(caplog)
    assert "and '\\ufeffANN' are taken for one person or recording, 'ann'; " in said
    assert "'BOB' and 'bob' are taken for one person or recording, 'bob'; " in said
    assert said.endswith("are taken for one method, 'ann'")


def test_a_source_that_shows_nothing_is_none(make):
    rows = [{"path": "a.mp4", "label": "REAL", "source": " \u200b"}]
    for name, write in WRITERS:
        chunk = make({name: write(rows)})
        (entry,) = read(chunk)
        assert entry.source_id == f"{chunk.name}/a"
        (chunk / name if chunk.is_dir() else chunk).unlink()
        (chunk.with_suffix("") / name).unlink(missing_ok=True)


def test_an_original_is_found_in_any_spelling(make):
    rows = [
        {"path": "deep/A\u0301.mp4", "label": "REAL", "source": "p"},
        {"path": "b.mp4", "label": "FAKE", "original": "deep/\u00e1.MP4 "},
        {"path": "c.mp4", "label": "FAKE", "original": "B.mp4"},
    ]
    assert {entry.source_id for entry in read(make({"manifest.jsonl": as_jsonl(rows)}))} == {"p"}


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "metadata.json"])
def test_a_listed_name_finds_the_file_that_looks_the_same(make, name):
    rows = [{"path": "A\u0301.mp4 ", "label": "REAL", "source": "p"}]
    text = {
        "manifest.csv": as_csv(rows), "manifest.jsonl": as_jsonl(rows),
        "metadata.json": json.dumps({row["path"]: row for row in rows}),
    }[name]  # fmt: skip
    (entry,) = read(make({name: text, "\u00c1.mp4": "", "b.mp4": ""}))
    assert (entry.file, entry.path) == ("\u00c1.mp4", "\u00c1.mp4")


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "metadata.json"])
def test_one_file_listed_in_two_spellings_is_refused(make, name):
    rows = [{"path": path, "label": label} for path, label in (("a.mp4", "REAL"), ("a.mp4 ", 1))]
    text = {
        "manifest.csv": as_csv(rows), "manifest.jsonl": as_jsonl(rows),
        "metadata.json": json.dumps({row["path"]: row for row in rows}),
    }[name]  # fmt: skip
    with pytest.raises(DatasetError, match="is there twice"):
        read(make({name: text, "a.mp4": ""}))


def test_folders_join_a_fake_to_the_real_video_of_its_name(make):
    paths = ["real/Ann.mp4", "fake/swap/ann.mp4", "fake/Swap /x.mp4"]
    found = read(make(paths))
    assert len({entry.source_id for entry in found if "nn" in entry.file}) == 1
    assert len({entry.method for entry in found if entry.label}) == 1


def test_a_header_s_columns_may_be_spelled_in_any_case(make):
    text = "\ufeffPath, Label,SOURCE\na.mp4, real ,p\n"
    assert read(make({"manifest.csv": text})) == [Entry("a.mp4", 0, "p", "real", "", "a.mp4")]


@pytest.mark.parametrize("box", [[10, 20.5, 30, 40], "10 20.5 30 40", "10, 20.5, 30, 40"])
@pytest.mark.parametrize("name", ["manifest.jsonl", "metadata.json"])
def test_a_list_may_say_where_a_fake_is_fake(make, caplog, name, box):
    caplog.set_level(logging.INFO)
    if name == "metadata.json" and isinstance(box, str):
        pytest.skip("JSON has lists")
    rows = [
        {"path": "a.mp4", "label": "FAKE", "source": "p", "fake_box": box},
        {"path": "b.mp4", "label": "FAKE", "source": "p", "fake_from_s": 1.5, "fake_to_s": 2},
        {"path": "c.mp4", "label": "FAKE", "source": "p", "fake_to_s": "4"},
        {"path": "d.mp4", "label": "REAL", "source": "p"},
    ]
    json_rows = {row["path"]: row for row in rows}
    text = as_jsonl(rows) if name.endswith("jsonl") else json.dumps(json_rows)
    assert [entry.forged for entry in read(make({name: text}))] == [
        ForgedPart((10.0, 20.5, 30.0, 40.0)), ForgedPart(None, 1.5, 2.0),
        ForgedPart(None, None, 4.0), None,
    ]  # fmt: skip
    assert not any("not read" in line for line in info_in(caplog))


def test_a_csv_may_say_where_a_fake_is_fake(make):
    text = "path,label,fake_box,fake_from_s,fake_to_s\na.mp4,1,1 2 3 4,0.5,\nb.mp4,0,,,\n"
    found = read(make({"manifest.csv": text}))
    assert [entry.forged for entry in found] == [ForgedPart((1.0, 2.0, 3.0, 4.0), 0.5), None]


@pytest.mark.parametrize(
    ("originals", "given", "expected"),
    [
        # A fake of a fake of a real one.
        ({"a": "b", "b": "c", "c": None}, {}, {"a": "c", "b": "c", "c": "c"}),
        # The root is not in the chunk.
        ({"a": "b", "b": "z"}, {}, {"a": "z", "b": "z"}),
        # A source halfway ends the way.
        ({"a": "b", "b": "c", "c": None}, {"b": "p"}, {"a": "p", "b": "p", "c": "c"}),
        # Circles share a name, and so do those who lead into them.
        ({"b": "c", "c": "d", "d": "b", "a": "d"}, {}, dict.fromkeys("abcd", "b")),
        ({"a": "a"}, {}, {"a": "a"}),
        ({"a": "b", "b": "a"}, {"b": "p"}, {"a": "p", "b": "p"}),
    ],
)
def test_sources_are_followed_to_the_root(tmp_path, originals, given, expected):
    metadata = {
        f"{name}.mp4": {
            "label": "FAKE" if original else "REAL",
            "original": original and f"{original}.mp4",
            "source": given.get(name),
        }
        for name, original in originals.items()
    }
    entries = read(write_chunk(tmp_path / "chunk", metadata))
    assert {entry.file[0]: entry.source_id for entry in entries} == expected


@pytest.mark.timeout(20)  # each on its own, these ways would take minutes
def test_a_long_way_to_the_root_is_walked_once(tmp_path):
    metadata = {
        f"{number:05}.mp4": {"label": "FAKE", "original": f"{number + 1:05}.mp4"}
        for number in range(20_000)
    }
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    assert {entry.source_id for entry in read(tmp_path)} == {"20000"}


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("{", "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON in UTF-8"),
        ('{"a.mp4": {"label": "REAL"}, "a.mp4": {"label": "FAKE"}}', "listed twice: 'a.mp4'"),
        ('{"a.mp4": {"label": "REAL", "label": "FAKE"}}', "listed twice: 'label'"),
        ("[]", "object from file names to their labels"),
        ("{}", "object from file names to their labels"),
        ('{"a.mp4": "REAL"}', "'a.mp4': should be an object with a label, is 'REAL'"),
        ('{"a.mp4": {}}', "label should be REAL or FAKE, is None"),
        ('{"a.mp4": {"label": "fakes"}}', "label should be REAL or FAKE, is 'fakes'"),
        ('{"a.mp4": {"label": "fake.0"}}', "label should be REAL or FAKE, is 'fake.0'"),
        ('{"a.mp4": {"label": true}}', "label should be REAL or FAKE, is True"),
        ('{"a.mp4": {"label": "FAKE", "method": " Real"}}', "method cannot be real"),
        ('{"a.mp4": {"label": "REAL", "source": "\\u200b "}}', "source should be a word"),
        ('{"a.mp4": {"label": "REAL", "fake_from_s": 1}}', "a real video has no fake_box"),
        ('{"a.mp4": {"label": "FAKE", "fake_from_s": "x"}}', "numbers from 0, hold 'x'"),
        ('{"a.mp4": {"label": "FAKE", "fake_from_s": -1}}', "numbers from 0, hold -1"),
        ('{"a.mp4": {"label": "FAKE", "fake_to_s": NaN}}', "numbers from 0, hold nan"),
        ('{"a.mp4": {"label": "FAKE", "fake_to_s": true}}', "numbers from 0, hold True"),
        ('{"a.mp4": {"label": "FAKE", "fake_to_s": 0}}', "should be after fake_from_s, is 0"),
        ('{"a.mp4": {"label": "FAKE", "fake_box": [1, 2, 3]}}', "should be x0 y0 x1 y1 in pixels"),
        ('{"a.mp4": {"label": "FAKE", "fake_box": 7}}', "should be x0 y0 x1 y1 in pixels"),
        ('{"a.mp4": {"label": "FAKE", "fake_box": [5, 0, 5, 9]}}', r"pixels, is \[5, 0, 5, 9\]"),
        (
            '{"A\u0301.mp4": {"label": "REAL"}, "\u00e1.mp4": {"label": "FAKE"}}',
            "another video gets this name too",
        ),
        ('{"a.mp4": {"label": ["FAKE"]}}', r"label should be REAL or FAKE, is \['FAKE'\]"),
        ('{"a.mp4": {"label": "REAL", "split": 1}}', "split should be a word, is 1"),
        ('{"a.mp4": {"label": "FAKE", "original": {}}}', "original should be a word, is {}"),
        ('{"a.mp4": {"label": "FAKE", "original": "../b.mp4"}}', "plain file name"),
        ('{"a.mp4": {"label": "FAKE", "method": ""}}', "method should be a word, is ''"),
        ('{"a.mp4": {"label": "FAKE", "method": "real"}}', "method cannot be real"),
        ('{"a.mp4": {"label": "REAL", "source": ["p"]}}', r"source should be a word, is \['p'\]"),
        ('{"a.mp4": {"label": "REAL", "source": "p\\n1"}}', "source should be a word"),
        ('{"a.mp4": {"label": "REAL", "source": "p|q"}}', r"'p\|q' holds \|"),
        ('{"a|b.mp4": {"label": "REAL"}}', r"'a\|b.mp4': holds \|"),
        ('{"a.mp4": {"label": "FAKE", "donors": "p"}}', "donors should be a list of words, is 'p'"),
        (
            '{"a.mp4": {"label": "FAKE", "donors": []}}',
            r"donors should be a list of words, is \[\]",
        ),
        ('{"a.mp4": {"label": "FAKE", "donors": ["p", 1]}}', "donors should be a list of words"),
        ('{"a.mp4": {"label": "FAKE", "donors": ["p|q"]}}', r"'p\|q' holds \|"),
        ('{"b/a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"b\\\\a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"/a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"..": {"label": "REAL"}}', "plain file name"),
        ('{".a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"": {"label": "REAL"}}', "plain file name"),
        ('{"a\\u0000.mp4": {"label": "REAL"}}', "do not print"),
        ('{"\\ud800.mp4": {"label": "REAL"}}', "do not print"),
        ('{"%s.mp4": {"label": "REAL"}}' % ("ä" * 100), "more than 200 bytes"),
        (
            '{"a.mp4": {"label": "REAL"}, "a.mov": {"label": "REAL"}}',
            "'a.mov': another video gets this name too",
        ),
    ],
)
def test_bad_metadata_is_refused_by_name(tmp_path, metadata, complaint):
    folder = write_chunk(tmp_path / "chunk", metadata)
    with pytest.raises(DatasetError, match=complaint) as caught:
        read(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isascii()


def test_metadata_in_another_encoding_is_refused(tmp_path):
    folder = write_chunk(tmp_path / "chunk", {"ä.mp4": REAL})
    text = '{"ä.mp4": {"label": "REAL"}}'
    (folder / "metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match="not JSON in UTF-8"):
        read(folder)
    (folder / "metadata.json").write_bytes(text.encode("utf-8-sig"))
    assert read(folder) == [Entry("ä.mp4", 0, "ä", "real", "", "ä.mp4")]


def test_one_message_lists_five_problems_and_counts_the_rest(tmp_path):
    folder = write_chunk(tmp_path / "chunk", {f"{n}.mp4": {"label": n + 2} for n in range(7)})
    with pytest.raises(DatasetError, match=r"7 problem\(s\)") as caught:
        read(folder)
    message = str(caught.value)
    assert [f"'{number}.mp4'" in message for number in range(7)] == [True] * 5 + [False] * 2
    assert "and 2 more" in message
