"""Where pretraining's faces come from: the sources of a split, and portraits by a list."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.test_pretrain_bank import FOUND, STILLS
from unmask.errors import DatasetError
from unmask.forgeries.mesh_hulls import POINTS, write_mesh_points
from unmask.models.pretrain_faces import (
    Material,
    collect_faces,
    collect_portraits,
    read_portraits,
)
from unmask.params import Detect

ROOT = Path(__file__).parents[2]
DETECT = Detect(max_side_px=512, min_face_px=30, thresholds=(0.6, 0.7, 0.7), min_score=0.9)
PEOPLE = {"train": ("001", "005"), "validation": ("007", "008"), "test": ("009",)}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_list(path, files):
    path.write_text("file,sha256\n" + "".join(f"{file.name},{sha256(file)}\n" for file in files))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Five people's stills as sources; mesh points of one; two people as listed portraits."""
    folder = tmp_path_factory.mktemp("sources")
    rows = ["file,person,split"]
    for split, people in PEOPLE.items():
        for person in people:
            shutil.copy(STILLS / f"{person}_neutral.jpg", folder)
            rows.append(f"{person}_neutral.jpg,p{person},{split}")
    (folder / "sources.csv").write_text("\n".join(rows) + "\n")
    facts = tmp_path_factory.mktemp("facts")
    portraits = tmp_path_factory.mktemp("portraits")
    for person in ("001", "003"):
        shutil.copy(STILLS / f"{person}_neutral.jpg", portraits / f"{person}.jpg")
    (portraits / "portraits.csv").write_text("another list\n")
    write_list(facts / "portraits.csv", sorted(portraits.glob("*.jpg")))
    points = np.tile(np.array([[100.0, 201.0]], np.float32), (len(POINTS), 1))
    write_mesh_points(facts / "mesh_points.npz", {sha256(folder / "001_neutral.jpg"): points})
    return Material(folder, facts / "mesh_points.npz", facts / "portraits.csv", portraits)


def test_the_faces_of_a_split_are_collected(material):
    faces = collect_faces(material, "train", DETECT)
    assert [face.person for face in faces] == ["p001", "p005"]
    for face, (box, points) in zip(faces, FOUND.values(), strict=True):
        assert face.still
        assert not face.portrait
        assert face.points_52 == pytest.approx(np.array(points), abs=8)  # of 512
        assert face.box_xyxy == pytest.approx(np.array(box), abs=8)
    assert faces[0].mesh_P2[0].tolist() == [100, 200]  # in steps of two pixels
    assert faces[1].mesh_P2 is None


def test_portraits_are_further_people(material):
    faces = collect_portraits(material, DETECT)
    assert [face.person for face in faces] == ["portrait 001", "portrait 003"]
    assert all(face.portrait and face.still for face in faces)
    assert faces[0].mesh_P2 is not None  # found by the picture, whatever its name
    assert faces[1].mesh_P2 is None


def test_without_a_folder_there_are_no_portraits(material, tmp_path):
    alone = replace(material, portraits=None, portraits_list=tmp_path / "none.csv")
    assert read_portraits(alone) == []
    assert collect_portraits(alone, DETECT) == []


@pytest.fixture
def own(material, tmp_path):
    """The material with a folder of portraits and a list that may be changed."""
    shutil.copytree(material.portraits, tmp_path / "portraits")
    shutil.copy(material.portraits_list, tmp_path / "list.csv")
    return replace(material, portraits=tmp_path / "portraits", portraits_list=tmp_path / "list.csv")


def test_a_portrait_that_is_missing_or_another_is_named(own):
    (own.portraits / "001.jpg").unlink()
    with (own.portraits / "003.jpg").open("ab") as picture:
        picture.write(b"more")
    with pytest.raises(DatasetError) as raised:
        read_portraits(own)
    assert str(raised.value) == (
        f"Asked for the 2 portraits of {own.portraits_list} in {own.portraits}; found 1 missing "
        "(001.jpg) and 1 with another SHA-256 (003.jpg). Fetch these files again, or leave "
        "PORTRAITS out."
    )


def test_only_some_of_many_are_named(own):
    rows = [f"{number}.jpg,{'0' * 64}\n" for number in range(700)]
    own.portraits_list.write_text("file,sha256\n" + "".join(rows))
    with pytest.raises(
        DatasetError, match=r"found 700 missing \(0\.jpg, 1\.jpg, 2\.jpg, \.\.\.\)\. Fetch"
    ):
        read_portraits(own)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file\na.jpg\n", "should have the columns file, sha256"),
        ("file,sha256\na.jpg\n", "should have the columns file, sha256"),
        ("", "should have the columns file, sha256"),
        ("file,sha256\n../a.jpg,0\n", "which is no plain file name"),
    ],
)
def test_a_list_that_is_not_as_it_should_be_is_refused(own, text, words):
    own.portraits_list.write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_portraits(own)


def test_a_folder_that_is_not_there_is_named(own, tmp_path):
    with pytest.raises(DatasetError, match="there is no such folder"):
        read_portraits(replace(own, portraits=tmp_path / "elsewhere"))
    with pytest.raises(DatasetError, match=r"there is no such file\. Take it from Git"):
        read_portraits(replace(own, portraits_list=tmp_path / "none.csv"))


def test_the_committed_list_and_points_are_of_the_same_portraits():
    from unmask.forgeries.mesh_hulls import read_mesh_points

    rows = (ROOT / "weights/portraits.csv").read_text().splitlines()[1:]
    digests = {row.split(",")[1] for row in rows}
    meshes = read_mesh_points(ROOT / "weights/mesh_points.npz")
    assert len(rows) == len(digests) == 734
    assert digests <= set(meshes)
    stills = {
        sha256(ROOT / "data/sources" / row.split(",")[0])
        for row in (ROOT / "data/sources/sources.csv").read_text().splitlines()[1:]
        if row.startswith("stills/") and not row.endswith(",test")
    }
    assert set(meshes) - digests == stills
    # The oval's 36 points go around the face: as wide as a face in its picture, not as the frame.
    widths = [np.ptp(points[:, 0]) for points in meshes.values()]
    assert 80 < min(widths) < max(widths) < 400
