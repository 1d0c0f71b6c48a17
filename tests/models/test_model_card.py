"""The model card: says what it was given, and warns where it must."""

from dataclasses import replace

import pytest
import yaml

from unmask.models.card_head import split_head
from unmask.models.model_card import CardFacts, SplitFacts, model_card
from unmask.scoring.verdicts import Limits

LIMITS = Limits(
    fake_from=0.7814, real_to=0.31249, min_face_px=72.9, min_track_s=1.2, min_sharpness=0.0256,
    max_sharpness=0.3105, min_brightness=0.226, max_brightness=0.686, max_error_ratio=0.1,
    reals=12, fakes=11, tracks=132,
)  # fmt: skip
FACTS = CardFacts(
    backbone="x3d_xs", weights="weights/x3d_xs.safetensors", weights_sha256="0f" * 32,
    began_as=None,
    parameters=2_978_514,
    frames=4, interval_s=0.4, side_px=182, brightness=0.6,
    crop_margin_ratio=0.1, crop_side_px=256, crop_rate_fps=10.0,
    tune="milestones", self_blend=0.0, chunks=("sample", "07"),
    splits={
        "train": SplitFacts(98, 44, {"swap": 21, "self_blend": 28}, people=51),
        "validation": SplitFacts(24, 12, {"self_blend": 12}),
        "test": SplitFacts(9, 9, {}),
    },
    epochs_run=6, best_epoch=4, best_log_loss=0.31249, best_auc=0.9431,
    limits=LIMITS,
    package_versions={"torch": "2.8.0", "lightning": "2.6.4"},
    git_commit="3bc784f0", unmask_version="0.1.0",
)  # fmt: skip


def test_model_card_says_what_it_was_given():
    card = model_card(FACTS)
    for said in (
        "# x3d_xs: real or fake?", "2,978,514 parameters", "unmask 0.1.0, Git commit 3bc784f0",
        "lightning 2.6.4, torch 2.8.0", "Chunks: sample, 07.",
        f"`weights/x3d_xs.safetensors` (sha256 {'0f' * 32}). The head",
        "| train | 98 | 44 | self_blend 28, swap 21 |", "| test | 9 | 9 | no fakes |",
        "Epochs run: 6. Epoch 4", "log-loss 0.312 and AUC 0.943", "10% margin on every side",
        "256 x 256 px, 10 frames/s", "4 frames of 182 x 182 px, 0.4 s apart: 1.2 s in all",
        "A score is evidence, not proof", "`data/sources/ATTRIBUTION.md`",
        "    unmask predict clip.mp4",
    ):  # fmt: skip
        assert " ".join(said.split()) in " ".join(card.split()), said
    assert "None" not in card
    assert max(len(line) for line in card.splitlines()) <= 100
    assert card.endswith(".\n")


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ("milestones", "The head learns first; the backbone's top layers join it at the milestone"),
        (
            "layernorm",
            "layers' scales and shifts and the head learned, nothing else; the head sees",
        ),
        ("head", "The head alone learned. Epochs run: 6."),
        ("all", "All its weights learned, from the first epoch on. Epochs run: 6."),
    ],
)
def test_model_card_says_what_learned(tune, said):
    assert said in " ".join(model_card(replace(FACTS, tune=tune)).split())


def test_model_card_says_what_becomes_of_a_clips_light():
    said = "1.2 s in all. One factor brings a dark clip to a mean of 0.6 of white. A video"
    assert said in " ".join(model_card(FACTS).split())
    as_they_are = " ".join(model_card(replace(FACTS, brightness=None)).split())
    assert "1.2 s in all. A video's answer" in as_they_are


def test_model_card_says_when_it_says_what():
    card = " ".join(model_card(FACTS).split())
    for said in (
        "It gives scores, and no verdicts.",
        "`unmask calibrate GENUINE...`",
        "It would say `fake` from a probability of 0.781 on, and `real` up to 0.312;",
        "the 12 real and 11 fake validation videos that this was learned from, at most 10% of each",
        "unlike the 132 that training and validation were measured on: smaller than 73 px, seen "
        "for less than 1.2 s, of a sharpness outside 0.026 to 0.310 or a brightness outside 0.23 "
        "to 0.69.",
    ):
        assert said in card, said
    assert "No stretch is enough to call a longer face `fake`" in card
    longer = replace(LIMITS, stretches=((2, 0.91), (4, 0.95)))
    told = " ".join(model_card(replace(FACTS, limits=longer)).split())
    assert (
        "up to 4 stretches one is enough to call a face `fake`, from a probability of 0.910" in told
    )
    mute = replace(LIMITS, fake_from=None, real_to=None)
    card = " ".join(model_card(replace(FACTS, limits=mute)).split())
    assert "It would never say `fake`, and never `real`; what is between is `inconclusive`" in card


def test_model_card_has_words_for_what_is_not_known():
    card = model_card(
        replace(FACTS, best_auc=None, git_commit=None, weights="none", weights_sha256=None)
    )
    assert "None" not in card
    assert "AUC not defined (one class)" in " ".join(card.split())
    assert "Git commit not recorded here" in card
    assert "It started from random weights." in card


def test_model_card_says_where_its_fakes_were_made_in_training():
    assert "turned into self-blended" not in model_card(FACTS)
    some = " ".join(model_card(replace(FACTS, self_blend=0.3)).split())
    assert "In training, 30% of the real clips were turned into self-blended fakes" in some
    assert "Validation has no fakes of its own" not in some
    real_alone = {name: SplitFacts(50, 44, {}) for name in FACTS.splits}
    alone = " ".join(model_card(replace(FACTS, self_blend=0.3, splits=real_alone)).split())
    assert "Validation has no fakes of its own: each real face stood there beside" in alone


@pytest.mark.parametrize(
    ("chunks", "on_stills", "on_own_data"),
    [(("sample",), True, False), (("sample", "07"), True, True), (("07",), False, True)],
)
def test_model_card_warns_of_stills_only_where_they_were_used(chunks, on_stills, on_own_data):
    card = " ".join(model_card(replace(FACTS, chunks=chunks)).split())
    stills = "stills moved by a camera path stand in for video; they are not videos of living faces"
    assert (stills in card) == on_stills
    assert ("ATTRIBUTION.md" in card) == on_stills
    assert ("Data of your own brings its own terms" in card) == on_own_data


def test_model_card_begins_as_the_hub_reads_it():
    head, body = split_head(model_card(FACTS))
    assert yaml.safe_load(head) == {
        "license": "other",  # chunk 07 brings terms of its own
        "license_name": "terms-of-its-data-and-starting-weights",
        "library_name": "unmask",
        "pipeline_tag": "video-classification",
        "tags": ["deepfake-detection", "face-forgery-detection", "unmask", "pytorch", "x3d_xs"],
        "datasets": ["sample", "07"],
        "metrics": ["roc_auc", "accuracy"],
    }
    assert body.startswith("# x3d_xs: real or fake?\n")


@pytest.mark.parametrize(
    ("chunks", "weights", "licence"),
    [
        (("sample",), "weights/x3d_xs.safetensors", "apache-2.0"),
        (("sample",), "none", "apache-2.0"),
        (("sample",), "kinetics400", "other"),
        (("sample",), "somebody.pth", "other"),
        (("sample", "07"), "none", "other"),
    ],
)
def test_model_card_claims_a_licence_only_where_all_of_its_parts_have_it(chunks, weights, licence):
    head, _ = split_head(model_card(replace(FACTS, chunks=chunks, weights=weights)))
    values = yaml.safe_load(head)
    assert values["license"] == licence
    assert ("license_name" in values) == (licence == "other")
    assert ("demonstration" in values["tags"]) == (chunks == ("sample",))


def test_model_card_takes_a_chunk_of_any_name():
    odd = "a: [b]\n---\n# x", "\u00fc ---"
    head, body = split_head(model_card(replace(FACTS, chunks=odd)))
    assert yaml.safe_load(head)["datasets"] == ["a-b-x", "unnamed"]
    assert body.startswith("# x3d_xs")


def test_model_card_says_whom_it_saw():
    card = " ".join(model_card(FACTS).split())
    assert "pasted into fakes: 51 in train. Nobody is in two splits. Their age, sex" in card
    unknown = {name: replace(split, people=None) for name, split in FACTS.splits.items()}
    card = " ".join(model_card(replace(FACTS, splits=unknown)).split())
    assert "How many people it saw was not counted." in card
