"""The sample chunk: a DFDC-shaped folder of short videos made from open face material.

Genuine videos are used as they are. A still becomes a clip by a smooth camera path with changing
light and sensor noise: it is not a video of a living face, and the model card says so. A fake goes
through exactly the same path as the real video it is made from; only the face differs.
"""

import csv
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unmask.data.words import join_spellings, say_joined, tidy
from unmask.errors import DatasetError
from unmask.faces.detector import Detector, detector_of_worker, start_worker
from unmask.faces.tracks import Detection
from unmask.forgeries.blend import METHODS, Floats, Image, Method, Recipe, draw_recipe, forge_frame
from unmask.params import Sample
from unmask.records import SPLITS
from unmask.runtime.code import code_digest
from unmask.runtime.disk import content_digest, write_atomically
from unmask.runtime.processes import run_jobs
from unmask.runtime.resume_manifest import ResumeManifest, key_of
from unmask.video.decode import probe, read_frames
from unmask.video.encode import write_video

logger = logging.getLogger(__name__)

FRAME_PX = 320
RATE_FPS = 25.0
DETECT_EVERY = 5  # frames of a genuine video; between them a forger's landmarks are interpolated
_METADATA = "metadata.json"
_MANIFEST = ".sample.jsonl"
# A change of these makes pairs anew.
_CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net", "faces/cascade",
    "faces/detector", "faces/torch_cascade", "faces/tracks", "forgeries/blend", "forgeries/sample",
    "video/colour", "video/decode", "video/encode", "video/endings", "video/failures",
    "video/frame", "video/light", "video/scale", "video/streams", "video/transport",
)  # fmt: skip


@dataclass(frozen=True)
class CameraPath:
    """A smooth path of a camera before a still, its light, and its sensor's noise."""

    zoom: float
    swing: npt.NDArray[np.float64]  # (6, 2, 3): channel, harmonic, (amplitude, Hz, phase)
    warmth: float
    noise_levels: float

    def _value(self, channel: int, time_s: float) -> float:
        amplitude, hertz, phase = self.swing[channel].T
        return float((amplitude * np.sin(2 * np.pi * hertz * time_s + phase)).sum())

    def matrix(self, centre_xy: tuple[float, float], time_s: float) -> npt.NDArray[np.float64]:
        """Return the 2x3 map from the still's pixels to the frame's at that time."""
        scale = self.zoom * (1 + self._value(0, time_s))
        angle = np.deg2rad(self._value(1, time_s))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        x, y = centre_xy
        half = FRAME_PX / 2
        move_x, move_y = self._value(2, time_s), self._value(3, time_s)
        return np.array(
            [
                [cos, -sin, half + move_x - cos * x + sin * y],
                [sin, cos, half + move_y - sin * x - cos * y],
            ]
        )

    def expose(self, frame_HWC: Image, time_s: float, rng: np.random.Generator) -> Image:
        """Return the frame under the path's light at that time, with fresh sensor noise."""
        height, width = frame_HWC.shape[:2]
        side = np.linspace(-1, 1, width, dtype=np.float32) * self._value(5, time_s)
        light = 1 + self._value(4, time_s) + side[None, :, None]
        tint = np.array([1 + self.warmth, 1.0, 1 - self.warmth], np.float32)
        noise = np.empty((height, width, 3), np.float32)
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
        cv2.randn(noise, (0.0,) * 3, (self.noise_levels,) * 3)  # a scalar is for red alone
        lit = frame_HWC.astype(np.float32)
        lit *= light * tint
        lit += noise
        return np.clip(np.round(lit, out=lit), 0, 255, out=lit).astype(np.uint8)


def draw_camera_path(rng: np.random.Generator) -> CameraPath:
    """Return a random path; amplitudes are for a face of about a third of the frame's width."""
    # zoom, rotation (degrees), x and y (pixels), brightness, side light
    amplitude = np.array([0.05, 3.0, 12.0, 8.0, 0.08, 0.08])
    swing = np.empty((6, 2, 3))
    swing[..., 0] = amplitude[:, None] * rng.uniform(0.2, 1.0, (6, 2)) * [1.0, 0.4]
    swing[..., 1] = rng.uniform(0.1, 0.35, (6, 2)) * [1.0, 2.0]
    swing[..., 2] = rng.uniform(0, 2 * np.pi, (6, 2))
    return CameraPath(
        zoom=float(rng.uniform(0.52, 0.75)),
        swing=swing,
        warmth=float(rng.uniform(-0.06, 0.06)),
        noise_levels=float(rng.uniform(0.5, 3.5)),
    )


def film(still_HWC: Image, matrix_23: npt.NDArray[np.float64]) -> Image:
    """Return the frame, FRAME_PX square, that a camera at this place sees of the still."""
    # Shrinking by half aliases under plain bilinear sampling: blur by what the map leaves out.
    scale = float(np.sqrt(abs(np.linalg.det(matrix_23[:, :2]))))
    sigma = 0.4 * max(1 / scale - 1, 0)
    soft = cv2.GaussianBlur(still_HWC, (0, 0), sigma) if sigma > 0.05 else still_HWC
    frame: Image = cv2.warpAffine(
        soft, matrix_23, (FRAME_PX, FRAME_PX),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    return frame


# ---------------------------------------------------------------- the chunk


@dataclass(frozen=True)
class Source:
    """A row of sources.csv: a picture or video of one person."""

    file: str
    person: str
    split: str

    @property
    def is_still(self) -> bool:
        """Say whether it has to be moved to become a video."""
        return self.file.endswith(".jpg")

    @property
    def name(self) -> str:
        """Return what its video is called."""
        return f"{self.person}_{Path(self.file).stem}"


@dataclass(frozen=True)
class Pair:
    """A real video to make, and its fake."""

    source: Source
    method: Method
    donor: Source | None  # whose face is pasted in a swap: a still of another person, same split
    seed: int

    @property
    def real_file(self) -> str:
        """Return the real video's file name."""
        return f"{self.source.name}.mp4"

    @property
    def fake_file(self) -> str:
        """Return the fake's: it says what it is, as data/sources/ATTRIBUTION.md asks."""
        return f"{self.source.name}_{self.method}.mp4"


def read_sources(folder: Path) -> list[Source]:
    """Return the rows of the folder's sources.csv.

    Spellings of one person's name are made one, by words.key_of.

    Raises:
        DatasetError: it is missing, lacks a column, or puts a person into two splits.
    """
    path = folder / "sources.csv"
    if not path.is_file():
        raise DatasetError(f"Asked for {path}; there is no such file. Take it from Git.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not CSV in UTF-8: {error}. Take it from Git.") from error
    # DictReader puts values without a column under None, and None where there is no value.
    if not rows or any(set(r) != {"file", "person", "split"} or None in r.values() for r in rows):
        raise DatasetError(f"{path} should have the columns file, person, split. Take it from Git.")
    people = join_spellings(row["person"] for row in rows)
    if joined := say_joined(people, "person"):
        logger.warning("%s: %s", path, "; ".join(joined))
    sources = [Source(row["file"], people[row["person"]], tidy(row["split"])) for row in rows]
    splits: dict[str, str] = {}
    for source in sources:
        if source.split not in SPLITS:
            raise DatasetError(
                f"{path} has {source.file} in the split {source.split!r}. Give it one of "
                f"{', '.join(SPLITS)}."
            )
        if splits.setdefault(source.person, source.split) != source.split:
            raise DatasetError(f"{path} has {source.person} in two splits. Give each person one.")
    return sources


def plan(folder: Path, settings: Sample) -> list[Pair]:
    """Return the pairs to make: every genuine video, and one still of each of so many people.

    Raises:
        DatasetError: sources.csv is not as it should be.
    """
    sources = read_sources(folder)
    rng = np.random.default_rng([settings.seed, 0])
    pairs: list[Pair] = []
    for split in SPLITS:
        own = [source for source in sources if source.split == split]
        by_person: dict[str, list[Source]] = {}
        for source in own:
            if source.is_still:
                by_person.setdefault(source.person, []).append(source)
        people = sorted(by_person)
        drawn = rng.permutation(len(people))[: getattr(settings.still_people, split)]
        stills = [by_person[people[i]][rng.integers(len(by_person[people[i]]))] for i in drawn]
        chosen = sorted([s for s in own if not s.is_still] + stills, key=lambda s: s.name)
        for index, source in enumerate(chosen):
            others = [still for still in stills if still.person != source.person]
            method = METHODS[index % len(METHODS)] if others else "self_blend"
            donor = others[rng.integers(len(others))] if method == "face_swap" else None
            pairs.append(Pair(source, method, donor, int(rng.integers(2**31))))
    return pairs


@dataclass(frozen=True)
class _Job:
    pair: Pair
    key: str
    sources: Path
    scratch: Path
    settings: Sample


def make_chunk(
    pairs: Sequence[Pair], sources: Path, chunk: Path, settings: Sample, *, workers: int
) -> Iterator[Pair]:
    """Write the chunk's videos and metadata.json; yield each pair as it is done.

    A pair depends on its own seed alone, so the chunk is the same whatever the workers. The pairs
    that a killed run has made are kept; whatever else is in the folder is deleted. No file is
    changed in place, as it may be a hard link into DVC's cache.

    Raises:
        DatasetError: no face is found in a source.
    """
    with ResumeManifest(chunk, _MANIFEST) as manifest:
        # From here on videos change: no metadata may remain that tells of the old ones.
        (chunk / _METADATA).unlink(missing_ok=True)
        code = code_digest(*_CODE)
        jobs = [
            _Job(pair, _key(pair, sources, settings, code), sources, manifest.scratch, settings)
            for pair in pairs
        ]
        missing = []
        for job in jobs:
            if manifest.lookup(job.pair.source.name, job.key):
                yield job.pair
            else:
                missing.append(job)
        start = partial(start_worker, settings.detect)
        for job in run_jobs(missing, _make_pair, start, workers, crashed=_refuse_crash):
            manifest.add(job.pair.source.name, job.key, [job.pair.real_file, job.pair.fake_file])
            yield job.pair
        write_atomically(chunk / _METADATA, _metadata(pairs))
        manifest.delete()
        files = {_METADATA, *(file for pair in pairs for file in (pair.real_file, pair.fake_file))}
        for path in list(chunk.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in files:
                path.unlink()


def _key(pair: Pair, sources: Path, settings: Sample, code: str) -> str:
    paths = [sources / source.file for source in (pair.source, pair.donor) if source is not None]
    digests = [content_digest(path) for path in paths if path.is_file()]
    return key_of(pair, settings, digests, code)


def _refuse_crash(job: _Job) -> _Job:
    raise DatasetError(
        f"{job.pair.source.file} should become a pair of videos; the process that made it was "
        "killed. Free some memory, or take the file from Git again."
    )


def _metadata(pairs: Sequence[Pair]) -> str:
    metadata = {}
    for pair in pairs:
        common = {"split": pair.source.split, "source": pair.source.person}
        metadata[pair.real_file] = {"label": "REAL", **common, "method": "real"}
        metadata[pair.fake_file] = {
            "label": "FAKE", **common, "original": pair.real_file, "method": pair.method
        }  # fmt: skip
    return json.dumps(metadata, indent=1, sort_keys=True) + "\n"


def _make_pair(job: _Job) -> _Job:
    pair, sources, settings = job.pair, job.sources, job.settings
    detector = detector_of_worker(settings.detect)
    rng = np.random.default_rng([pair.seed, 0])
    crf = int(rng.integers(settings.crf[0], settings.crf[1] + 1))
    recipe = draw_recipe(pair.method, rng)
    donor = None
    if pair.donor is not None:
        picture = read_still(sources / pair.donor.file)
        donor = picture, _detect_points(picture, pair.donor.file, detector)
    path = sources / pair.source.file
    if pair.source.is_still:
        camera, rate_fps = draw_camera_path(rng), RATE_FPS
        frames, points = _film_still(path, camera, settings.seconds, detector)
    else:
        camera, rate_fps = None, probe(path).rate_fps or RATE_FPS
        frames = [f.rgb_HWC() for f in read_frames(path) if f.time_s < settings.seconds]
        points = _follow_face(frames, pair.source.file, detector)

    def shoot(forge: Recipe | None) -> Iterator[Image]:
        # Noise and a forger's trembling are drawn anew for each of the two.
        shots = np.random.default_rng([pair.seed, 1 if forge is None else 2])
        for index, frame in enumerate(frames):
            if forge is not None:
                frame, _ = forge_frame(frame, points[index], forge, shots, donor=donor)
            yield frame if camera is None else camera.expose(frame, index / rate_fps, shots)

    origin = f"made from {pair.source.file}; see data/sources/ATTRIBUTION.md"
    comments = f"not manipulated; {origin}", f"MANIPULATED ({pair.method}); {origin}"
    for file, forge, comment in zip(
        (pair.real_file, pair.fake_file), (None, recipe), comments, strict=True
    ):
        write_video(
            job.scratch / file,
            shoot(forge),
            rate_fps=rate_fps,
            crf=crf,
            metadata={"comment": comment},
        )
    return job


def read_still(path: Path) -> Image:
    """Return a still's pixels, RGB."""
    picture: Image | None = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise DatasetError(f"{path} should be a picture; it can't be read. Take it from Git.")
    return picture


def _detect_points(picture_HWC: Image, name: str, detector: Detector) -> Floats:
    [found] = detector.detect([picture_HWC])
    if not found:
        raise DatasetError(
            f"{name} should show a face; none was found. Loosen sample.detect or drop its row."
        )
    return np.array(largest(found).points_52, np.float32)


def largest(found: Sequence[Detection]) -> Detection:
    """Return the widest of some faces."""
    return max(found, key=lambda detection: detection.box_xyxy[2] - detection.box_xyxy[0])


def _film_still(
    path: Path, camera: CameraPath, seconds: float, detector: Detector
) -> tuple[list[Image], list[Floats]]:
    still = read_still(path)
    points_52 = _detect_points(still, path.name, detector)
    centre_x, centre_y = (float(value) for value in points_52.mean(axis=0))
    frames, points = [], []
    for index in range(round(seconds * RATE_FPS)):
        matrix = camera.matrix((centre_x, centre_y), index / RATE_FPS)
        frames.append(film(still, matrix))
        points.append((points_52 @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    return frames, points


def _follow_face(frames: Sequence[Image], name: str, detector: Detector) -> list[Floats]:
    """Return the largest face's landmarks in every frame, interpolated between detections."""
    at, seen = [], []
    for index in range(0, len(frames), DETECT_EVERY):
        [found] = detector.detect([frames[index]])
        if found:
            at.append(index)
            seen.append(np.array(largest(found).points_52).reshape(10))
    if not at:
        raise DatasetError(
            f"{name} should show a face; none was found. Loosen sample.detect or drop its row."
        )
    every = np.arange(len(frames))
    flat = np.stack([np.interp(every, at, values) for values in np.stack(seen, axis=1)], axis=1)
    return list(flat.reshape(-1, 5, 2).astype(np.float32))
