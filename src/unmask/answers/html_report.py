"""One video's answer as one page that can be mailed: nothing in it asks for another file."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import cv2
from pydantic import BaseModel, Field, ValidationError, model_validator

from unmask.answers import benchmark_results, evidence, messages, timeline, verify
from unmask.answers import provenance as answer_provenance
from unmask.answers.analysis import Answer, FaceAnswer, Moment
from unmask.answers.annotate import box_at
from unmask.answers.drawing import WORDS, Marked, Picture, as_jpeg_uri, draw
from unmask.answers.evidence import Evidence
from unmask.answers.file_says import FileSays
from unmask.errors import NoMapError
from unmask.models.predict import Predictor
from unmask.runtime.digests import model_digest
from unmask.runtime.disk import write_atomically
from unmask.runtime.plain_text import shown_name
from unmask.runtime.templates import read_template
from unmask.scoring import metrics
from unmask.scoring.verdicts import Limits
from unmask.video.decode import Info, probe, read_frames
from unmask.video.failures import DecodeError
from unmask.video.frame import Frame

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("html_report.html")
_FRAMES = 3  # pictures of worst moments
_FRAME_PX, _CROP_PX = 640, 256
_MOST_EXPLAINED = 12  # faces: a crowd would make the page too large to mail
_MOST_MAPPED = 24  # clips of a face: each takes as long as three that are scored
_JPEG_QUALITY = 82
_DEGRADED = 5  # that are listed


_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Interval(BaseModel):
    value: _Number | None
    low: _Number | None
    high: _Number | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        known = [each is not None for each in (self.value, self.low, self.high)]
        if known[1] != known[2] or known[1] > known[0]:
            raise ValueError("an interval without its value or an end")
        return self


class _OfVideos(BaseModel):
    count: int
    roc_auc: _Interval | None = None
    accuracy: _Interval | None = None


class _Test(BaseModel):
    """What the page says of metrics/test.json."""

    sources: int
    video: _OfVideos


class _DegradedRow(BaseModel):
    degradation: str
    roc_auc: _Interval


class _Robustness(BaseModel):
    """What the page says of metrics/robustness.json."""

    rows: list[_DegradedRow] = []


class _Ranking(BaseModel):
    roc_auc: _Interval


class _PlainRow(BaseModel):
    words: str
    roc_auc: _Interval
    above_model: _Interval


class _PlainSplit(BaseModel):
    split: str
    videos: int
    model: _Ranking
    rows: list[_PlainRow]


class _Baselines(BaseModel):
    """What the page says of metrics/baselines.json."""

    splits: list[_PlainSplit]


class _Difference(BaseModel):
    roc_auc: _Interval


class _ComparedRow(BaseModel):
    backbone: str
    weights: str
    roc_auc: _Interval
    first_minus_this: _Difference | None = None


class _Comparison(BaseModel):
    """What the page says of metrics/comparison.json."""

    videos: int
    rows: list[_ComparedRow]


@dataclass(frozen=True)
class Source:
    """The model's folder, the checkout whose metrics are the model's, and the answer's origin."""

    model_dir: Path
    root: Path  # with metrics/ and dvc.lock
    provenance: answer_provenance.Provenance
    name: str | None = None  # of the video, where the file that is read has another
    model_source: str | None = None  # hf:OWNER/NAME@COMMIT of a model of the Hub


@dataclass(frozen=True)
class Shown:
    """A picture of the page."""

    uri: str  # with all of the picture in it
    caption: str


@dataclass(frozen=True)
class FaceView:
    """What the page shows of one face."""

    number: int
    answer: FaceAnswer
    doubts: list[str]
    timeline: timeline.Timeline
    evidence: Evidence | None
    no_map: str  # why there is no evidence
    pictures: list[Shown]


def write(
    out: Path,
    answer: Answer,
    predictor: Predictor,
    crops_dir: Path,
    source: Source,
    said: FileSays | None = None,
) -> bytes:
    """Write the page and return its bytes; crops_dir is the folder of the tracks' crop files.

    said is what the file says of itself, where it was asked.

    Raises:
        DatasetError: a crop file holds fewer frames than its row says.
        DiskError: the disk takes no more.
    """
    limits = answer.limits
    faces = [
        _view(number, face, answer, limits, explained)
        for number, (face, explained) in enumerate(
            _explain(answer, predictor, crops_dir), start=1
        )
    ]  # fmt: skip
    tests = {
        name: _fit(answer_provenance.read_metrics(source.root, source.model_dir, name), kind)
        for name, kind in (
            ("test", _Test),
            ("robustness", _Robustness),
            ("baselines", _Baselines),
        )
    }
    compared = answer_provenance.read_comparison(source.root, source.model_dir)
    tests["comparison"] = _fit(compared, _Comparison)
    tests["benchmarks"] = benchmark_results.read(source.root, source.model_dir)
    data = page_data(answer, predictor, faces, source, tests)
    data["file_says"] = None if said is None else said.model_dump(mode="json")
    page = read_template(TEMPLATE).render(
        data=data,
        data_json=_json(data),
        answer=answer,
        headline=messages.HEADLINES[answer.verdict],
        sentence=messages.sentence(answer),
        doubts=messages.doubts_of(answer),
        rules=messages.rules_of(answer),
        caution=messages.CAUTION,
        said=said,
        said_of_credentials=messages.CREDENTIALS[said.credentials.state] if said else "",
        frames=list(_worst_frames(answer)),
        faces=faces,
        maps_of=_maps_of(predictor) if any(face.evidence for face in faces) else "",
        limits=limits,
        card=answer_provenance.read_card(source.model_dir),
        tests=tests,
        degraded=_most_degraded(tests["robustness"]),
        plain=_without_detector(tests["baselines"]),
        tolerance=verify.TOLERANCE,
        shown=metrics.shown,
        percent=messages.percent,
        clock=timeline.clock,
        sizes=timeline,
    )
    content = verify.seal(page).encode()
    write_atomically(out, content)
    return content


def page_data(
    answer: Answer,
    predictor: Predictor,
    faces: Sequence[FaceView],
    source: Source,
    tests: dict[str, answer_provenance.Metrics],
) -> dict[str, Any]:
    """Return what the page says for machines, as JSON takes it; its digest is still blank."""
    info = _probe(answer)
    # Where the file lay is nobody's business who gets the page.
    detail = shown_name(answer.detail.replace(str(answer.path), answer.path.name))
    limits, checkpoint = answer.limits, predictor.checkpoint
    adopted, began_as = checkpoint.adopted, checkpoint.began_as
    return {
        "page_sha256": verify.BLANK,
        "format": verify.FORMAT,
        "video": {
            "name": shown_name(source.name or answer.path.name),
            "sha256": answer.sha256,
            "bytes": _size(answer.path) if answer.sha256 else None,
            **(asdict(info) if info else {}),
            **({"codec": answer.still, "rate_fps": None, "is_still": True} if answer.still else {}),
            "duration_s": answer.duration_s,
        },
        "answer": {
            "verdict": answer.verdict,
            "probability": answer.probability,
            "doubts": list(answer.doubts),
            "reason": answer.reason,
            "detail": detail,
            "clip_s": answer.clip_s,
            "worst": [
                {"face": place + 1, **asdict(moment)} for place, moment in answer.worst
            ],
            "faces": [_face_data(view) for view in faces],
            "again_tolerance": verify.TOLERANCE,
        },
        "model": {
            "sha256": model_digest(source.model_dir),
            "source": source.model_source,
            "run_key": predictor.checkpoint.run_key,
            "backbone": predictor.checkpoint.model.backbone,
            "adopted": adopted.model_dump(mode="json") if adopted else None,
            "began_as": began_as.model_dump(mode="json") if began_as else None,
            "temperature": predictor.checkpoint.temperature,
            "limits": asdict(limits),
            "promise": None if answer.promise is None else asdict(answer.promise),
            "metrics": {
                name: {"remark": found.remark, "values": found.values}
                for name, found in tests.items()
            },
        },
        "provenance": asdict(source.provenance),
    }  # fmt: skip


def _face_data(view: FaceView) -> dict[str, Any]:
    face, found = view.answer, view.evidence
    heat = None if found is None else {
        "grid": found.heat_HW.round(5).tolist(),
        "shares": found.shares,
        "over_time": [
            {"time_s": time_s, "heat": round(heat, 6)}
            for time_s, heat in zip(found.times_N, found.heat_N, strict=True)
        ],
    }  # fmt: skip
    return {
        "number": view.number,
        "first_s": face.track.times_T[0],
        "last_s": face.track.end_s,
        "probability": face.probability,
        "verdict": face.verdict,
        "doubts": list(face.doubts),
        "look": asdict(face.quality),
        "likeness": None if face.likeness is None else asdict(face.likeness),
        "stretch": {
            "start_s": face.part.start_s,
            "end_s": face.part.end_s,
            "probability": face.part.probability,
        },
        "timeline": [asdict(moment) for moment in face.timeline],
        "heat": heat,
    }


def _json(data: dict[str, Any]) -> str:
    """Return JSON that can stand in a page: nothing in it ends the element that it stands in."""
    text = json.dumps(data, indent=1, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _fit(found: answer_provenance.Metrics, kind: type[BaseModel]) -> answer_provenance.Metrics:
    """Return the metrics if they have what the page says of them: they may be a stranger's."""
    if found.values is None:
        return found
    try:
        kind.model_validate(found.values)
    except ValidationError as error:
        places = sorted({".".join(map(str, each["loc"])) for each in error.errors()})
        remark = f"They are damaged: {', '.join(places):.200}. Write them anew by `dvc repro`."
        return answer_provenance.Metrics(None, remark)
    return found


def _most_degraded(found: answer_provenance.Metrics) -> list[tuple[str, dict[str, float]]]:
    """Return the AUC after the degradations of the test videos that leave the least of it."""
    rows = (found.values or {}).get("rows", [])
    aucs = [(row["degradation"], row["roc_auc"]) for row in rows]
    known = [(name, auc) for name, auc in aucs if None not in auc.values()]
    return sorted(known, key=lambda pair: pair[1]["value"])[:_DEGRADED]


def _without_detector(found: answer_provenance.Metrics) -> dict[str, Any] | None:
    """Return how the model does beside what needs no detector on test videos, if that is known.

    `above` has the words for each quantity whose difference to the model is above 0 with all of its
    interval.
    """
    splits = [split for split in (found.values or {}).get("splits", []) if split["split"] == "test"]
    if not splits:
        return None
    split: dict[str, Any] = splits[0]
    above = [row["words"] for row in split["rows"] if (row["above_model"]["low"] or 0.0) > 0]
    return {**split, "above": above}


# ---------------------------------------------------------------- pictures


def _explain(
    answer: Answer, predictor: Predictor, crops_dir: Path
) -> Iterator[tuple[FaceAnswer, Evidence | str]]:
    """Yield each face with what its maps show, or why there are none."""
    by_score = sorted(answer.faces, key=lambda face: -face.probability)
    chosen = {face.track.track for face in by_score[:_MOST_EXPLAINED]}
    for face in answer.faces:
        found: Evidence | str = "More suspicious ones come first."
        if face.track.track in chosen:
            try:
                found = evidence.explain(
                    predictor.heat_of, crops_dir, face.track, _mapped_starts(face),
                    predictor.checkpoint.geometry,
                )  # fmt: skip
            except NoMapError as error:
                logger.warning("no maps of evidence: %s", error)
                found = str(error)
        yield face, found


def _maps_of(predictor: Predictor) -> str:
    """Return what the maps are of, where that is not the last stage of a convolutional net."""
    if predictor.maps_tokens:
        return " on a transformer's tokens, as they enter its last block"
    return ""


def _mapped_starts(face: FaceAnswer) -> list[float]:
    """Return the starts of the clips to map: spread over the track, and the worst stretch's."""
    starts_s, part = face.score.clip_starts_s, face.part
    step = -(-len(starts_s) // _MOST_MAPPED)
    return [
        start_s
        for number, start_s in enumerate(starts_s)
        if number % step == 0 or part.start_s <= start_s < part.end_s
    ]


def _view(
    number: int, face: FaceAnswer, answer: Answer, limits: Limits, explained: Evidence | str
) -> FaceView:
    pictures = []
    found = None if isinstance(explained, str) else explained
    if found is not None:
        at = "" if answer.still else f" at {timeline.clock(found.crop_s)}"
        pictures.append(Shown(_uri(found.crop_HWC, _CROP_PX), f"The face{at}"))
        if found.heat_N and max(found.heat_N) > 0:
            moment = evidence.overlay(found.crop_HWC, found.crop_heat_HW)
            whole = evidence.overlay(found.crop_HWC, found.heat_HW)
            pictures.append(Shown(_uri(moment, _CROP_PX), f"What spoke for a fake{at}"))
            if not answer.still:
                pictures.append(Shown(_uri(whole, _CROP_PX), "The same over the whole track"))
    return FaceView(
        number, face, messages.doubts_of_face(face, limits),
        timeline.lay_out(answer, face, limits, found), found,
        explained if isinstance(explained, str) else "", pictures,
    )  # fmt: skip


def _worst_frames(answer: Answer) -> Iterator[Shown]:
    """Yield the video's frames in the middle of its worst clips; its first where it has none."""
    wanted = list(_apart(answer))
    try:
        if not wanted:
            first = next(read_frames(answer.video))
            caption = "No face was found in it" if answer.still else "The video's first frame"
            yield Shown(_uri(first.rgb_HWC(), _FRAME_PX), caption)
            return
        found = _find_frames(
            answer.video, [moment.time_s + answer.clip_s / 2 for _, moment in wanted]
        )
        for (place, moment), frame in zip(wanted, found, strict=True):
            yield _show(answer, place, moment, frame)
    except DecodeError:  # the answer says why
        return


def _apart(answer: Answer) -> Iterator[tuple[int, Moment]]:
    """Yield the worst moments, none that overlaps one before: such a frame would be the same."""
    taken: list[Moment] = []
    for place, moment in answer.worst:
        if all(abs(moment.time_s - other.time_s) >= answer.clip_s for other in taken):
            taken.append(moment)
            yield place, moment
        if len(taken) == _FRAMES:
            return


def _find_frames(path: Path, times_s: Sequence[float]) -> list[Frame]:
    """Return the frame that is shown at each time; the last one for times beyond it."""
    found: dict[float, Frame] = {}
    waiting = sorted(times_s)
    last = None
    frames = read_frames(path)
    try:
        for frame in frames:
            while waiting and last is not None and frame.time_s > waiting[0]:
                found[waiting.pop(0)] = last
            last = frame
            if not waiting:
                break
    except DecodeError:
        if last is None:
            raise
    assert last is not None
    return [found.get(time_s, last) for time_s in times_s]


def _show(answer: Answer, place: int, moment: Moment, frame: Frame) -> Shown:
    picture_HWC = frame.reduced_rgb_HWC(_FRAME_PX)
    scale = picture_HWC.shape[1] / frame.width
    marks = []
    for number, face in enumerate(answer.faces):
        if (box := box_at(face, frame.time_s)) is not None:
            left, top, right, bottom = (side * scale for side in box)
            words = f"{number + 1} {WORDS[face.verdict]} {face.probability:.2f}"
            marks.append(Marked((left, top, right, bottom), words, face.verdict))
    caption = (
        f"{timeline.clock(frame.time_s)}: face {place + 1}, score of this moment "
        f"{messages.percent(moment.probability)}"
    )
    if answer.still:
        caption = f"Face {place + 1}, score {messages.percent(moment.probability)}"
    return Shown(_uri(draw(picture_HWC, marks), _FRAME_PX), caption)


def _uri(picture_HWC: Picture, max_side_px: int) -> str:
    height, width, _ = picture_HWC.shape
    scale = min(1.0, max_side_px / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture_HWC = cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA)
    return as_jpeg_uri(picture_HWC, _JPEG_QUALITY)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # it was deleted after it was read
        return None


def _probe(answer: Answer) -> Info | None:
    try:
        return probe(answer.video)
    except DecodeError:
        return None
