"""The faces that pretraining forges: of the committed sources, and of portraits that are not.

Portraits are pictures that everybody may use and nobody should find here: their list, with a digest
of each, is committed, and whoever has the pictures hands their folder in.
"""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.errors import DatasetError
from unmask.faces.detector import Detector
from unmask.forgeries.blend import Floats, Image
from unmask.forgeries.mesh_hulls import read_mesh_points
from unmask.forgeries.sample import largest, read_sources, read_still
from unmask.params import Detect
from unmask.runtime.disk import content_digest
from unmask.video.decode import read_frames

logger = logging.getLogger(__name__)

VIDEO_STEP = 6  # of a genuine video every sixth frame is used: its neighbours look the same
_NAMED = 3  # files that an error names


@dataclass(frozen=True)
class BaseFace:
    """A real picture with one face: what forgeries are made from."""

    picture_HWC: Image
    points_52: Floats
    box_xyxy: Floats
    person: str
    still: bool
    mesh_P2: Floats | None = None  # mesh_hulls.POINTS, where they are known
    portrait: bool = False  # of somebody who agreed to nothing: never swapped with another's face


@dataclass(frozen=True)
class Portrait:
    """A row of the portraits' list."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Material:
    """Where the pictures lie from which pretraining learns, and what is known of them."""

    sources: Path  # the folder of sources.csv
    mesh_points: Path  # as mesh_hulls.read_mesh_points reads them
    portraits_list: Path
    portraits: Path | None = None  # the folder; without it the sources alone are learned from


def read_portraits(material: Material) -> list[Portrait]:
    """Return the rows of the portraits' list after checking that the folder holds just these files.

    Without a folder there are none. Files that the list does not name are let be, and never read.

    Raises:
        DatasetError: the list is not as it should be, or a file is missing or another one.
    """
    if material.portraits is None:
        return []
    listed = _read_list(material.portraits_list)
    folder = material.portraits
    if not folder.is_dir():
        raise DatasetError(
            f"Asked for portraits in {folder}; there is no such folder. Name the one that holds "
            f"the files of {material.portraits_list}, or leave PORTRAITS out."
        )
    missing = [row.file for row in listed if not (folder / row.file).is_file()]
    other = [
        row.file
        for row in listed
        if row.file not in set(missing) and content_digest(folder / row.file) != row.sha256
    ]
    if missing or other:
        found = [
            f"{len(files)} {what} ({', '.join(files[:_NAMED])}{', ...' * (len(files) > _NAMED)})"
            for files, what in ((missing, "missing"), (other, "with another SHA-256"))
            if files
        ]
        raise DatasetError(
            f"Asked for the {len(listed)} portraits of {material.portraits_list} in {folder}; "
            f"found {' and '.join(found)}. Fetch these files again, or leave PORTRAITS out."
        )
    return listed


def _read_list(path: Path) -> list[Portrait]:
    if not path.is_file():
        raise DatasetError(f"Asked for {path}; there is no such file. Take it from Git.")
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not CSV in UTF-8: {error}. Take it from Git.") from error
    if not rows or any(set(r) != {"file", "sha256"} or None in r.values() for r in rows):
        raise DatasetError(f"{path} should have the columns file, sha256. Take it from Git.")
    for row in rows:
        if Path(row["file"]).name != row["file"]:
            raise DatasetError(f"{path} names {row['file']!r}, which is no plain file name.")
    return [Portrait(row["file"], row["sha256"]) for row in rows]


def collect_faces(material: Material, split: str, detect: Detect) -> list[BaseFace]:
    """Return the split's stills, and every VIDEO_STEP-th frame of its videos, with their faces.

    A picture without a face that the detector finds is left out.
    """
    detector = Detector(detect)
    meshes = read_mesh_points(material.mesh_points)
    faces = []
    for source in read_sources(material.sources):
        if source.split != split:
            continue
        path = material.sources / source.file
        if source.is_still:
            faces += _find_face(detector, read_still(path), source.person, _mesh_of(path, meshes))
            continue
        for index, frame in enumerate(read_frames(path)):
            if index % VIDEO_STEP == 0:
                faces += _find_face(detector, frame.rgb_HWC(), source.person, None, still=False)
    return faces


def collect_portraits(material: Material, detect: Detect) -> list[BaseFace]:
    """Return the portraits with their faces; each is another person.

    Raises:
        DatasetError: see read_portraits.
    """
    listed = read_portraits(material)
    if not listed or material.portraits is None:
        return []
    detector = Detector(detect)
    meshes = read_mesh_points(material.mesh_points)
    faces = []
    for row in listed:
        path = material.portraits / row.file
        faces += _find_face(
            detector, read_still(path), f"portrait {path.stem}", meshes.get(row.sha256),
            portrait=True,
        )  # fmt: skip
    logger.info("%d portraits, %d with a face", len(listed), len(faces))
    return faces


def _mesh_of(path: Path, meshes: Mapping[str, Floats]) -> Floats | None:
    return meshes.get(content_digest(path))


def _find_face(
    detector: Detector,
    picture_HWC: Image,
    person: str,
    mesh_P2: Floats | None,
    *,
    still: bool = True,
    portrait: bool = False,
) -> list[BaseFace]:
    """Return the largest face in a list, or an empty one."""
    [found] = detector.detect([picture_HWC])
    if not found:
        return []
    face = largest(found)
    points = np.asarray(face.points_52, np.float32)
    box = np.asarray(face.box_xyxy, np.float32)
    return [BaseFace(picture_HWC, points, box, person, still, mesh_P2, portrait)]
