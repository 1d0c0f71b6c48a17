"""The card to publish: training's, with results by origin that can be worked out on paper."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from unmask import params
from unmask.errors import WeightsError
from unmask.evaluation import baselines
from unmask.evaluation.baselines import Seen
from unmask.evaluation.looks import Look
from unmask.evaluation.published_card import by_origin, publish, write_card
from unmask.models.card_head import split_head

SETTINGS = params.load().evaluate.model_copy(update={"bootstrap_resamples": 100})
CARD = (
    "---\nlicense: other\ntags:\n- x3d_xs\n---\n\n# x3d_xs: real or fake?\n\nintro\n\n## Data\n\n"
    "much\n\n## How to use it\n\n    unmask predict clip.mp4\n"
)


def seen(chunk, method, score, *, width=100.0, group=None):
    """Return a video with one picture."""
    look = Look({"face_px": width, "sharpness": 0.1}, np.zeros((1, 1), np.float32))
    label = int(method != "real")
    return Seen(chunk, method, label, group or f"{chunk}{method}{score}{width}", score, look)


VIDEOS = [
    seen("a", "real", 0.1), seen("a", "real", 0.4), seen("a", "swap", 0.3), seen("a", "blend", 0.9),
    seen("b", "real", 0.8), seen("b", "swap", 0.7), seen("b", "swap", None),
]  # fmt: skip


def test_each_method_stands_against_its_chunks_real_videos():
    rows = {(row["chunk"], row["method"]): row for row in by_origin(VIDEOS, SETTINGS)}
    assert {place: row["roc_auc"]["value"] for place, row in rows.items()} == {
        ("all", "all"): 6 / 9,  # of .1 .4 .8, .3 beats one, .7 two and .9 all three
        ("a", "blend"): 1.0, ("a", "swap"): 0.5, ("b", "swap"): 0.0,
    }  # fmt: skip
    assert (rows["b", "swap"]["fakes"], rows["b", "swap"]["reals"]) == (1, 1)
    assert list(rows) == [("all", "all"), ("a", "blend"), ("a", "swap"), ("b", "swap")]


def test_the_card_to_publish_has_an_index_of_results_and_a_chapter_of_them():
    summary = baselines.summarise(VIDEOS, None, SETTINGS)
    card = publish(CARD, "x3d_xs", VIDEOS, summary, SETTINGS)
    head, body = split_head(card)
    values = yaml.safe_load(head)
    assert values["license"] == "other"
    [entry] = values["model-index"]
    assert entry["name"] == "x3d_xs"
    assert [result["dataset"]["name"] for result in entry["results"]] == [
        "all test videos", "a, blend", "a, swap", "b, swap",
    ]  # fmt: skip
    first = entry["results"][0]
    assert first["task"]["type"] == "video-classification"
    assert first["dataset"]["split"] == "test"
    assert first["metrics"][0]["type"] == "roc_auc"
    assert first["metrics"][0]["value"] == 0.6667
    assert "AUC over 3 fakes and 3 real videos" in first["metrics"][0]["name"]
    chapters = [line for line in body.splitlines() if line.startswith("## ")]
    assert chapters == ["## Data", "## Results on test videos", "## How to use it"]
    [results] = [chapter for chapter in body.split("\n## ") if chapter.startswith("Results")]
    assert "**No result on another data set is known**" in results.split("\n|")[0]
    assert "`unmask benchmark NAME --model MODEL`" in results
    assert "| a | blend | 1 | 2 | 1.000" in body
    assert "| face width (px) | 0.500" in body
    assert body.endswith("    unmask predict clip.mp4\n")


def test_the_hub_itself_reads_the_head():
    hub = pytest.importorskip("huggingface_hub")
    card = publish(CARD, "x", VIDEOS, baselines.summarise(VIDEOS, None, SETTINGS), SETTINGS)
    data = hub.ModelCard(card).data
    assert data.license == "other"
    assert [result.metric_value for result in data.eval_results] == [0.6667, 1.0, 0.5, 0.0]
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_a_model_below_a_line_says_so_in_its_card():
    wide = [seen("a", "swap" if n % 2 else "real", 0.5, width=100 + 50 * (n % 2) + n / 10,
                 group=f"p{n // 2}") for n in range(40)]  # fmt: skip
    summary = baselines.summarise(wide, None, SETTINGS)
    card = publish(CARD, "x", wide, summary, SETTINGS)
    assert (
        "**The model is NOT SHOWN TO BE BETTER THAN CHANCE (0.5). It is BELOW what needs no" in card
    )
    assert "**Warning:** face width (px) (more in fakes) alone ranks these videos better" in card


def test_one_class_has_no_result():
    real = VIDEOS[:2]
    summary = baselines.summarise(real, None, SETTINGS)
    head, body = split_head(publish(CARD, "x", real, summary, SETTINGS))
    assert yaml.safe_load(head)["model-index"] == [{"name": "x", "results": []}]
    assert "| all | all | 0 | 2 | - |" in body


def test_a_chunks_name_can_break_neither_table_nor_head():
    odd = [seen("a|b\n---\n## x", "real", 0.1), seen("a|b\n---\n## x", "s|w", 0.9)]
    card = publish(CARD, "x", odd, baselines.summarise(odd, None, SETTINGS), SETTINGS)
    head, body = split_head(card)
    assert yaml.safe_load(head)["model-index"][0]["results"][1]["dataset"] == {
        "name": "a|b\n---\n## x, s|w", "type": "a-b-x", "split": "test",
    }  # fmt: skip
    assert "| a/b --- ## x | s/w | 1 | 1 | 1.000" in body
    assert "\n## x" not in body


def test_a_card_without_head_or_chapters_gets_its_results_all_the_same():
    summary = baselines.summarise(VIDEOS, None, SETTINGS)
    head, body = split_head(publish("# mine\n", "x", VIDEOS, summary, SETTINGS))
    assert list(yaml.safe_load(head)) == ["model-index"]
    assert body.startswith("# mine\n\n## Results on test videos")


def test_a_model_without_a_card_is_told_of(tmp_path: Path):
    summary = baselines.summarise(VIDEOS, None, SETTINGS)
    with pytest.raises(WeightsError, match=r"MODEL_CARD\.md; it can't be read"):
        write_card(tmp_path, "x", tmp_path / "out.md", VIDEOS, summary, SETTINGS)
    for broken in (b"---\na: [\n---\n", b"\xff\xfe"):
        (tmp_path / "MODEL_CARD.md").write_bytes(broken)
        with pytest.raises(WeightsError, match="it can't be read"):
            write_card(tmp_path, "x", tmp_path / "out.md", VIDEOS, summary, SETTINGS)
    (tmp_path / "MODEL_CARD.md").write_text(CARD)
    write_card(tmp_path, "x", tmp_path / "out.md", [], None, SETTINGS)
    assert (tmp_path / "out.md").read_text() == CARD  # no test videos, no results


def test_nobody_vouches_for_what_others_trained_on():
    summary = baselines.summarise(VIDEOS, None, SETTINGS)
    assert "Nobody in them was trained on." in publish(CARD, "x", VIDEOS, summary, SETTINGS)
    card = publish(CARD, "x", VIDEOS, summary, SETTINGS, whose="A | detector")
    assert "Nobody in them was trained on." not in card
    assert "Others trained A / detector: nobody here knows whether they trained on these" in card
