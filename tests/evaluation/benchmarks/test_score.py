"""A model's answers on a benchmark are asked for once, and written as any detector's are."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_layout import ROOT, import_closure
from unmask import params
from unmask.evaluation.benchmarks import score, scores_file
from unmask.evaluation.benchmarks.score import Answered, answer_all, describe, to_scores
from unmask.models.adopt.record import Adopted
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import pool
from unmask.records import Chunk, Reason, TrackScore, VideoFaces, VideoRecord, VideoScore
from unmask.scoring.verdicts import NOTHING_LEARNED

RECORDS = [
    VideoRecord(
        "Deepfakes_c23_001_002", "Deepfakes_c23_001_002.mp4", 1, "001", "Deepfakes", "test"
    ),
    VideoRecord("a", "a.mp4", 0, "p1", "real", "test"),
    VideoRecord("b", "b.mp4", 0, "p2", "real", "test"),
]


def tracks(*logits_of_faces: tuple[float, ...]) -> list[TrackScore]:
    found = []
    for place, logits in enumerate(logits_of_faces):
        starts_s = tuple(1.2 * number for number in range(len(logits)))
        found.append(TrackScore(place, sum(logits) / len(logits), starts_s, logits))
    return found


ANSWERS = {
    "Deepfakes_c23_001_002": pool("Deepfakes_c23_001_002", tracks((1.0, 3.0), (-1.0,)), None, 2.0),
    "a": pool("a", tracks((-1.0, -1.0)), Reason.TRUNCATED, 2.0),
    "b": pool("b", [], Reason.NO_FACE, 2.0),
}


@pytest.fixture
def chunk(tmp_path: Path) -> Chunk:
    faces = {record.video_id: VideoFaces(record.video_id, "key", ()) for record in RECORDS}
    return Chunk("wild", RECORDS, faces, tmp_path / "faces")


class Asked:
    """Answers as ANSWERS has it, and notes what it was asked."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.names: list[str] = []
        self.fails_at = fails_at

    def __call__(
        self, record: VideoRecord, found: VideoFaces
    ) -> tuple[VideoScore, str, tuple[str, ...]]:
        assert found.video_id == record.video_id
        if len(self.names) == self.fails_at:
            raise KeyboardInterrupt
        self.names.append(record.video_id)
        return ANSWERS[record.video_id], "fake", ("face_too_small", "broken_off")


def test_answers_come_in_order_and_are_kept(chunk: Chunk, model_folder: Path, tmp_path: Path):
    (model_folder / "checkpoint.json").write_text("{}")
    asked, again = Asked(), Asked()
    first = list(answer_all(chunk, model_folder, asked, tmp_path / "kept"))
    assert asked.names == [record.video_id for record in RECORDS]
    assert [each.score for each in first] == [ANSWERS[name] for name in asked.names]
    assert first[0].doubts == ("face_too_small", "broken_off")
    assert list(answer_all(chunk, model_folder, again, tmp_path / "kept")) == first
    assert again.names == []


def test_a_killed_run_goes_on_where_it_was(chunk: Chunk, model_folder: Path, tmp_path: Path):
    (model_folder / "checkpoint.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        list(answer_all(chunk, model_folder, Asked(fails_at=2), tmp_path / "kept"))
    asked = Asked()
    assert len(list(answer_all(chunk, model_folder, asked, tmp_path / "kept"))) == 3
    assert asked.names == ["b"]


def test_new_crops_new_labels_and_another_model(chunk: Chunk, model_folder: Path, tmp_path: Path):
    (model_folder / "checkpoint.json").write_text("{}")
    list(answer_all(chunk, model_folder, Asked(), tmp_path / "kept"))
    relabelled = replace(chunk, records=[replace(r, method="other") for r in RECORDS])
    asked = Asked()
    found = list(answer_all(relabelled, model_folder, asked, tmp_path / "kept"))
    assert asked.names == []  # what is known of a video changes no answer
    assert {each.record.method for each in found} == {"other"}
    recropped = replace(chunk, faces=chunk.faces | {"b": VideoFaces("b", "another", ())})
    list(answer_all(recropped, model_folder, asked, tmp_path / "kept"))
    assert asked.names == ["b"]
    (model_folder / "checkpoint.json").write_text('{"temperature": 2}')
    list(answer_all(recropped, model_folder, asked, tmp_path / "kept"))
    assert asked.names == ["b", *(record.video_id for record in RECORDS)]


def test_answers_have_the_form_of_any_detector_s(model_folder: Path, tmp_path: Path):
    (model_folder / "checkpoint.json").write_text("{}")
    settings = params.load()
    checkpoint = Checkpoint(
        settings.faces, settings.clips, settings.model, 2.0, NOTHING_LEARNED, run_key="k"
    )
    detector = describe("ours", model_folder, checkpoint, ["studio"])
    answers = [Answered(record, ANSWERS[record.video_id]) for record in RECORDS]
    scores = to_scores("wild", answers, detector, 2.0)
    place = scores_file.detector_place(tmp_path, "wild", "ours")
    scores_file.write(place, scores)
    read = scores_file.read(place)
    assert read.rows == scores.rows
    assert read.frames == scores.frames
    assert read.detector.trained_on == ("studio",)
    fake, a, b = read.rows
    assert (fake.logit, fake.compression, fake.label) == (1.0, "c23", 1)  # worst face 2, over 2
    assert fake.probability == ANSWERS["Deepfakes_c23_001_002"].probability
    assert a.logit == -0.5
    assert (a.reason, b.reason, b.rank) == ("", "no_face", None)  # broken off, and scored
    assert read.frames["Deepfakes_c23_001_002"].names == ("0@0.000", "0@1.200", "1@0.000")
    assert read.frames["Deepfakes_c23_001_002"].scores == (0.5, 1.5, -0.5)


ADOPTED = Adopted.model_validate({
    "adapter": "gend", "title": "GenD", "source": "hf:owner/name", "commit": None, "file": "a.pth",
    "sha256": "ab" * 32, "licence": {"code": "MIT", "weights": "CC BY-NC 4.0", "free": False},
    "licence_accepted": True, "trained_on": "FaceForensics++, c23",
    "architecture": {"net": "resnet50", "options": {}, "outputs": 2, "fake": [1],
                     "mean": [0.5, 0.5, 0.5], "deviation": [0.5, 0.5, 0.5], "pooling": "logits"},
})  # fmt: skip


def test_what_a_model_was_trained_on_is_what_its_folder_says(model_folder: Path):
    (model_folder / "checkpoint.json").write_text("{}")
    settings = params.load()
    ours = Checkpoint(
        settings.faces, settings.clips, settings.model, 2.0, NOTHING_LEARNED, run_key="k"
    )
    card = model_folder / "MODEL_CARD.md"
    card.write_text("---\ndatasets: [dfdc, 7, our-chunk]\n---\n\n# A model\n")
    assert describe("a", model_folder, ours, None).trained_on == ("dfdc", "our-chunk")
    assert describe("a", model_folder, ours, ["studio"]).trained_on == ("studio",)
    adopted = describe("a", model_folder, replace(ours, adopted=ADOPTED), None)
    assert adopted.trained_on == ("FaceForensics++, c23",)
    assert (adopted.licence, adopted.version.split(",")[0]) == ("CC BY-NC 4.0", "GenD")
    card.write_text("---\n[\n---\n")
    assert describe("a", model_folder, ours, None).trained_on is None
    card.unlink()
    assert describe("a", model_folder, ours, None).trained_on is None


@pytest.mark.parametrize(
    ("file", "word"),
    [("youtube_raw_033.mp4", "raw"), ("c40_x.mp4", "c40"), ("abc23_1.mp4", ""), ("c23.mp4", "")],
)
def test_a_compression_is_a_word_of_its_own(file: str, word: str):
    assert score.compression_of(file) == word


def test_the_code_that_counts_is_what_answering_imports_but_what_cannot_change_an_answer() -> None:
    harmless = {
        # Crops are there before: each has a key of what it was made by.
        "faces.cascade", "faces.cropper", "faces.detector", "faces.search", "faces.torch_cascade",
        "faces.tracks", "video.encode", "video.scale",
        # What is made of answers, and what a detector is called.
        "evaluation.benchmarks.scores_file", "models.card_head",
        # How a model's folder says where it came from.
        "models.adopt.record", "models.adopt.start",
        # How many cores, what engines share, and which files are refused.
        "engine.cores", "engine.net", "engine.onnx_file",
        # What refuses, how work is shared out, how files are written; not what is computed.
        "errors", "records", "runtime.child", "runtime.code", "runtime.confinement",
        "runtime.digests", "runtime.disk", "runtime.plain_text", "runtime.processes",
        "runtime.resume_manifest", "runtime.scratch", "runtime.system", "runtime.wire",
        "runtime.without_compiler",
        "video.ahead",
        # Still pictures: no benchmark has any, as crops are made of videos.
        "video.still", "video.pictures",
    }  # fmt: skip
    counted = {name.replace("/", ".") for name in score._CODE}
    assert counted.isdisjoint(harmless)
    closure = import_closure(ROOT, ROOT / "src/unmask/answers/labelled.py") | import_closure(
        ROOT, ROOT / "src/unmask/evaluation/benchmarks/score.py"
    )
    own = {"answers.labelled", "evaluation.benchmarks.score"}
    assert counted | harmless == closure | own
