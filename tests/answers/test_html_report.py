"""Pages of real answers: what they show, what they hide, what they ask of nobody."""

import base64
import hashlib
import html
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from painted import faces_over_noise
from promised import save_promised

from unmask import params
from unmask.answers import html_report, provenance, verify
from unmask.answers.analysis import analyse
from unmask.models import backbones
from unmask.models.adopt.record import Licence, Start
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor
from unmask.runtime.digests import dvc_digest, model_digest
from unmask.scoring.verdicts import NOTHING_LEARNED, Doubt, Verdict

HOSTILE = "<script>alert(1)<\u202e&\"quo'te<script>.mp4"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its data, its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def cases(tmp_path_factory, make_video):
    """Two faces, none in a file of a hostile name, no video: their answers, pages and model."""
    root = tmp_path_factory.mktemp("case")
    settings = params.load()
    torch.manual_seed(1)
    net = backbones.build("x3d_xs", dropout=0.5)
    clips = settings.clips.model_copy(update={"side_px": 96, "max_per_track": 3})
    limits = replace(NOTHING_LEARNED, fake_from=0.0, max_sharpness=99.0)
    made = Checkpoint(settings.faces, clips, settings.model, 1.0, limits, "key")
    save_promised(root / "model", net, made)
    (root / "model/MODEL_CARD.md").write_text("# card\n\n## Known limits\n\n- <b>it</b> errs\n")
    paint = faces_over_noise(("001_smiling.jpg", 30, 40), ("002_smiling.jpg", 300, 40))
    two = make_video(root / "two.mp4", frames=50, rate_fps=25, size=(480, 240), paint=paint)
    wall = make_video(
        root / "wall.mp4", frames=10, paint=lambda *_: np.full((96, 128, 3), 90, np.uint8)
    )
    hostile = wall.rename(root / HOSTILE)
    bad = root / os.fsdecode(b"caf\xe9.mp4")
    bad.write_text("no video")
    predictor = Predictor.load(root / "model", device="cpu")
    origin = provenance.collect(root, run_key="key", command=["unmask", "predict"], mlflow_db=None)
    answers = list(analyse(predictor, [two, hostile, bad], crops_dir=root / "crops"))
    source = html_report.Source(root / "model", root, origin)
    for place, answer in enumerate(answers):
        out = root / f"{place}.html"
        html_report.write(out, answer, predictor, root / "crops", source)
    return root, answers, predictor


def test_a_page_says_what_a_transformers_maps_are_of(cases):
    root, answers, predictor = cases
    assert "arXiv:1610.02391)" in _read(root, 0)[0]
    torch.manual_seed(1)
    net = backbones.build("timm/vit_tiny_patch16_224", dropout=0.5, side_px=96).eval()
    model = predictor.checkpoint.model.model_copy(update={"backbone": "timm/vit_tiny_patch16_224"})
    vit = Predictor(net, replace(predictor.checkpoint, model=model))
    out = root / "vit.html"
    source = html_report.Source(root / "model", root, provenance.collect(
        root, run_key="key", command=["unmask"], mlflow_db=None
    ))  # fmt: skip
    html_report.write(out, answers[0], vit, root / "crops", source)
    text = out.read_text(encoding="utf-8")
    assert "arXiv:1610.02391 on a transformer's tokens, as they enter its last block)" in (
        html.unescape(text)
    )
    assert "6 cells across a face" in text


def test_commands_are_set_as_code_and_names_keep_their_backticks(cases, tmp_path):
    asked = replace(
        cases[1][0], verdict=Verdict.INCONCLUSIVE, doubts=(Doubt.NOT_CALIBRATED,), promise=None,
        path=cases[1][0].path.with_name("a `b`.mp4"),
    )  # fmt: skip
    os.link(cases[1][0].path, asked.path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/comparison.json").write_text("{}")
    _write(tmp_path / "page.html", asked, cases, tmp_path)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = text[: text.index('<script type="application/json"')]
    assert (
        "<li>Nobody has calibrated this model on genuine videos of a known kind, so no score of "
        "it is a verdict. <code>unmask calibrate GENUINE...</code>, with" in shown
    )
    assert "<code>make compare</code> writes it anew." in shown
    assert set(re.findall("`[^`]*`", html.unescape(shown))) == {"`b`"}


def _write(out, answer, cases, checkout):
    """Write one more page, of metrics in another checkout."""
    root, _, predictor = cases
    origin = provenance.collect(checkout, run_key="key", command=["unmask"], mlflow_db=None)
    source = html_report.Source(root / "model", checkout, origin)
    html_report.write(out, answer, predictor, root / "crops", source)


def _read(root, place) -> tuple[str, Page]:
    text = (root / f"{place}.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.mark.parametrize("place", range(3))
def test_a_page_asks_for_nothing_and_runs_nothing(cases, place):
    text, page = _read(cases[0], place)
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert [e["type"] for e in page.all("script")] == ["application/json"]
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "a", "form"} == set()
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert not re.search(r"https?://|url\(|@import", text)
    assert not any(name.startswith("on") for _, each in page.elements for name in each)
    assert str(cases[0]) not in text  # where the files lay


def test_faces_are_shown_with_their_moments_and_maps(cases):
    root, answers, _ = cases
    text, page = _read(root, 0)
    assert [face.verdict for face in answers[0].faces] == [Verdict.FAKE] * 2
    assert "Likely manipulated" in "".join(page.words)
    assert len(text.encode()) < 400_000
    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(i["src"].partition(",")[2]), np.uint8), 1)
        for i in page.all("img")
    ]
    frames = [p for p in pictures if p.shape[:2] == (240, 480)]
    crops = [p for p in pictures if p.shape[:2] == (256, 256)]
    assert len(frames) >= 1
    assert len(frames) + len(crops) == len(pictures)
    # The frame's boxes are orange, the whole frame of a fake.
    orange = (np.abs(frames[0].astype(int) - (0x1A, 0x75, 0xE6)).max(axis=2) < 60).sum()
    assert orange > 1000
    data = json.loads(re.search(r"<script [^>]*>(.*?)</script>", text, re.DOTALL)[1])
    assert data["answer"]["probability"] == answers[0].probability
    assert [face["number"] for face in data["answer"]["faces"]] == [1, 2]
    assert [each["aria-label"][:6] for each in page.all("svg") if "aria-label" in each] == [
        "Face 1", "Face 2",
    ]  # fmt: skip


def test_a_hostile_name_is_only_a_name(cases):
    _, page = _read(cases[0], 1)
    words = "".join(page.words)
    assert "<script>alert(1)<\\u202e&\"quo'te<script>.mp4" in words
    assert "No face was found" in words
    assert len(page.all("img")) == 1  # the first frame


def test_a_file_that_is_no_video_has_a_page_that_says_so(cases):
    _, page = _read(cases[0], 2)
    words = "".join(page.words)
    assert r"caf\xe9.mp4" in words
    assert "The file is not a video" in words
    assert "<b>it</b> errs" in words
    assert page.all("img") == []


def test_a_video_that_was_deleted_meanwhile_has_its_page(cases, tmp_path):
    root, answers, _ = cases
    answer = replace(answers[0], path=tmp_path / "gone.mp4")
    _write(tmp_path / "0.html", answer, cases, root)
    text, page = _read(tmp_path, 0)
    data = json.loads(re.search(r"<script [^>]*>(.*?)</script>", text, re.DOTALL)[1])
    assert (data["video"]["sha256"], data["video"]["bytes"]) == (answer.sha256, None)
    assert len(page.all("img")) == 6  # of the crops


def test_a_page_says_how_other_models_do_on_the_same_videos(cases, tmp_path):
    root, answers, _ = cases
    assert "make compare" in "".join(_read(root, 2)[1].words)
    auc = {"value": 0.75, "low": 0.5, "high": 1.0}
    ours = {"backbone": "x3d_xs", "weights": "none", "model_md5": dvc_digest(root / "model")}
    other = {"backbone": "<i>lite0", "weights": "imagenet", "model_md5": "other"}
    other["first_minus_this"] = {"roc_auc": {"value": 0.125, "low": -0.25, "high": 0.5}}
    rows = [ours | {"roc_auc": auc}, other | {"roc_auc": auc | {"value": 0.625}}]
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/comparison.json").write_text(json.dumps({"videos": 68, "rows": rows}))
    _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    words = " ".join(" ".join(_read(tmp_path, 2)[1].words).split())
    assert "x3d_xs (this model) none 0.750 [0.500, 1.000]" in words
    assert "<i>lite0 imagenet 0.625 [0.500, 1.000] +0.125 [-0.250, +0.500]" in words
    assert "the same 68 others" in words


def test_a_page_says_first_how_the_model_does_on_other_data(cases, tmp_path):
    root, answers, _ = cases
    assert "How it does on other data than its own is not known. No result" in " ".join(
        _read(root, 2)[1].words
    )
    auc = {"value": 0.75, "low": 0.5, "high": 1.0}
    result = {
        "name": "celeb<b>", "real": 10, "fake": 30, "sources": 5, "coverage": 0.5, "saw_it": False,
        "roc_auc": auc, "tpr_at_fpr_5": auc | {"value": 0.625}, "matched_roc_auc": None,
        "without_detector": {"words": "grain, the less", "roc_auc": auc | {"value": 0.875}},
    }  # fmt: skip
    seen = result | {"name": "atraining", "saw_it": True, "coverage": 1}
    carried = {"format": 1, "model_digest": model_digest(root / "model")}
    file = root / "model/benchmarks.json"
    file.write_text(json.dumps(carried | {"benchmarks": [seen, result]}))
    try:
        _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    finally:
        file.unlink()
    words = " ".join(" ".join(_read(tmp_path, 2)[1].words).split())
    row = "celeb<b> , 40 videos, 50% scored 0.750 [0.500, 1.000] 0.625 [0.500, 1.000] - "
    assert f"{row}0.875 [0.500, 1.000], grain, the less" in words
    assert words.index("celeb<b>") < words.index("atraining (seen in training), 40 videos 0.750")
    assert words.index("celeb<b>") < words.index("On test videos like those it was trained on")


def _write_baselines(root, checkout, content):
    """Write metrics/baselines.json as the model's own, by dvc.lock."""
    (checkout / "metrics").mkdir(exist_ok=True)
    written = json.dumps(content)
    (checkout / "metrics/baselines.json").write_text(written)
    md5 = hashlib.md5(written.encode(), usedforsecurity=False).hexdigest()
    read = [{"path": "model", "md5": dvc_digest(root / "model")}]
    wrote = [{"path": "metrics/baselines.json", "md5": md5}]
    lock = {"stages": {"baselines": {"deps": read, "outs": wrote}}}
    (checkout / "dvc.lock").write_text(json.dumps(lock))


def test_a_page_tells_of_a_model_that_ranks_worse_than_the_width_of_a_face(cases, tmp_path):
    root, answers, _ = cases
    assert "better than the width of a face or the bitrate is not known" in " ".join(
        _read(root, 2)[1].words
    )
    model = {"roc_auc": {"value": 0.42, "low": 0.25, "high": 0.625}}
    width = {
        "words": "face <i>width", "roc_auc": {"value": 0.6875, "low": 0.5, "high": 0.75},
        "above_model": {"value": 0.25, "low": 0.125, "high": 0.375},
    }  # fmt: skip
    grain = width | {"words": "grain", "above_model": {"value": 0.1, "low": -0.125, "high": 0.25}}
    test = {"split": "test", "videos": 129, "model": model, "rows": [width, grain]}
    _write_baselines(root, tmp_path, {"splits": [test | {"split": "validation"}, test]})
    _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    words = " ".join(" ".join(_read(tmp_path, 2)[1].words).split())
    assert "ranks its test videos worse than face <i>width alone: what it says is no" in words
    assert "this model 0.420 [0.250, 0.625]" in words
    assert "face <i>width 0.688 [0.500, 0.750] +0.250 [+0.125, +0.375]" in words
    assert "The same 129 test videos" in words
    better = width | {"above_model": {"value": -0.25, "low": -0.375, "high": -0.125}}
    _write_baselines(root, tmp_path, {"splits": [test | {"rows": [better, grain]}]})
    _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    assert "ranks its test videos worse" not in " ".join(_read(tmp_path, 2)[1].words)
    _write_baselines(root, tmp_path, {"splits": [{"split": "test", "rows": "many"}]})
    _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    words = " ".join(" ".join(_read(tmp_path, 2)[1].words).split())
    assert "They are damaged: splits.0.model, splits.0.rows, splits.0.videos" in words


def test_metrics_that_few_videos_can_not_have_are_told_in_words(cases, tmp_path):
    root, answers, _ = cases
    none = {"value": None, "low": None, "high": None}
    video = {"count": 2, "roc_auc": none, "accuracy": none | {"value": 0.5}}
    written = json.dumps({"sources": 1, "video": video})
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/test.json").write_text(written)
    md5 = hashlib.md5(written.encode(), usedforsecurity=False).hexdigest()
    read = [{"path": "model", "md5": dvc_digest(root / "model")}]
    wrote = [{"path": "metrics/test.json", "md5": md5}]
    lock = {"stages": {"evaluate": {"deps": read, "outs": wrote}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))
    _write(tmp_path / "2.html", answers[2], cases, tmp_path)
    words = " ".join("".join(_read(tmp_path, 2)[1].words).split())
    assert "not defined: the test videos are of one class" in words
    assert "Right at a score of 50%50% (too few for an interval)" in words


def test_a_page_is_verified_and_its_score_comes_out_again(cases):
    root, answers, predictor = cases
    found = verify.check_again(root / "0.html", answers[0].path, root / "model", predictor)
    assert [(each.part, each.matches) for each in found.checks] == [
        ("report", True), ("file", True), ("model", True), ("score", True),
    ]  # fmt: skip
    other = verify.check(root / "0.html", answers[1].path, root / "model")
    assert other.exit_code == verify.EXIT_CODES["file"]
    text, _ = _read(root, 0)
    (root / "edited.html").write_text(text.replace("Likely manipulated", "Surely manipulated"))
    edited = verify.check(root / "edited.html", answers[0].path, root / "model")
    assert edited.exit_code == verify.EXIT_CODES["report"]


def test_a_page_names_whose_weights_a_model_began_with(cases, tmp_path):
    root, answers, predictor = cases
    start = Start(
        adapter="x3d-xs-kinetics", title="X3D-XS of Kinetics-400", source="X3D_XS.pyth",
        commit=None, file="X3D_XS.pyth", sha256="0f" * 32, licence_accepted=True,
        licence=Licence(code="Apache-2.0", weights="not named", free=False, why="Ask FAIR."),
        trained_on="Kinetics-400.", backbone="x3d_xs",
    )  # fmt: skip
    began = Predictor(predictor.net, replace(predictor.checkpoint, began_as=start, promise=None))
    _write(tmp_path / "page.html", answers[1], (root, answers, began), root)
    text = html.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert (
        "This model was trained on from weights of others: X3D-XS of Kinetics-400, from "
        "X3D_XS.pyth. Licence of those weights: not named. Ask FAIR."
    ) in " ".join(text.split())
