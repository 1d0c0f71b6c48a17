"""The card that goes with a model when it is published: training's, with the results on test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask.errors import WeightsError
from unmask.evaluation.baselines import Seen, Summary, verdict_on, warnings_of
from unmask.models.card_head import hub_name, read_head, split_head, with_head
from unmask.models.checkpoint import CARD
from unmask.models.model_card import plain
from unmask.params import Evaluate
from unmask.runtime.disk import read_regular, write_atomically
from unmask.scoring import metrics
from unmask.scoring.scores import roc_auc

_MAX_BYTES = 2**18
# In the first chapter of results, until there are some: benchmarks/card.py takes it out then.
NOTHING_ELSEWHERE = (
    "**No result on another data set is known**; expect less there than here. `unmask benchmark "
    "NAME --model MODEL` scores the model on one, and `unmask benchmark card OUT --card "
    "metrics/MODEL_CARD.md` puts what it gave before this chapter."
)
_BEFORE = "\n## How to use it\n"  # the results stand before this chapter of training's card


def publish(
    card: str,
    name: str,
    seen: Sequence[Seen],
    summary: Summary,
    settings: Evaluate,
    *,
    whose: str = "",
) -> str:
    """Return training's card with the results of the test videos by origin.

    name is the model's, seen are the test videos, summary says how it does beside what needs no
    detector; whose names the weights that others trained, which the model has or began with. The
    head gets a model-index, by which the Hugging Face Hub shows the results.

    Raises:
        ValueError: the card's head is no YAML.
    """
    origins = by_origin(seen, settings)
    head = read_head(card)
    measured = [_index_row(row) for row in origins if row["roc_auc"]["value"] is not None]
    head["model-index"] = [{"name": name, "results": measured}]
    _, body = split_head(card)
    before, mark, after = body.partition(_BEFORE)
    chapter = f"\n{_results(origins, summary, whose)}\n"
    return with_head(head, f"{before}{chapter}{mark}{after}" if mark else f"{body}{chapter}")


def write_card(
    model_dir: Path,
    name: str,
    path: Path,
    seen: Sequence[Seen],
    summary: Summary | None,
    settings: Evaluate,
    *,
    whose: str = "",
) -> None:
    """Write the card of a model's folder with its results; summary is None without test videos.

    The arguments are as in publish.

    Raises:
        WeightsError: the folder has no card, or one that is damaged.
    """
    try:
        card = read_regular(model_dir / CARD, _MAX_BYTES).decode()
        if summary is not None:
            card = publish(card, name, seen, summary, settings, whose=whose)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"Asked for the model's card {model_dir / CARD}; it can't be read ({error}). Run "
            "`dvc checkout model`, or `dvc repro train`."
        ) from error
    write_atomically(path, card)


def by_origin(seen: Sequence[Seen], settings: Evaluate) -> list[dict[str, Any]]:
    """Return the AUC of all videos, then of each method of each chunk against that chunk's real
    videos; only videos that the model answered count."""
    seen = [video for video in seen if video.score is not None]
    origins: list[tuple[str, str, list[Seen]]] = [("all", "all", list(seen))]
    for chunk in sorted({video.chunk for video in seen}):
        own = [video for video in seen if video.chunk == chunk]
        for method in sorted({video.method for video in own if video.label == 1}):
            some = [video for video in own if video.label == 0 or video.method == method]
            origins.append((chunk, method, some))
    return [
        {
            "chunk": chunk,
            "method": method,
            "fakes": sum(video.label for video in some),
            "reals": sum(1 - video.label for video in some),
            "roc_auc": _measure(some, settings),
        }
        for chunk, method, some in origins
    ]


def _measure(seen: Sequence[Seen], settings: Evaluate) -> metrics.Measured:
    if not seen:
        return dict(metrics.NOT_MEASURED)
    return metrics.measure(
        roc_auc, [video.label for video in seen], [video.score or 0.0 for video in seen],
        [video.group for video in seen],
        resamples=settings.bootstrap_resamples, seed=settings.seed,
    )  # fmt: skip


def _index_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an origin's row as a model-index has it."""
    measured = row["roc_auc"]
    origin = "all test videos" if row["chunk"] == "all" else f"{row['chunk']}, {row['method']}"
    found: dict[str, Any] = {
        "type": "roc_auc",
        "name": f"AUC over {row['fakes']} fakes and {row['reals']} real videos",
        "value": round(measured["value"], 4),
    }
    if measured["low"] is not None:
        bounds = f"{measured['low']:.3f} to {measured['high']:.3f}"
        found["name"] += f" (95% interval {bounds})"
    return {
        "task": {"type": "video-classification", "name": "Telling fake faces from real ones"},
        "dataset": {"name": origin, "type": hub_name(row["chunk"]), "split": "test"},
        "metrics": [found],
    }


def _results(origins: Sequence[Mapping[str, Any]], summary: Summary, whose: str) -> str:
    """Return the chapter: results by origin, and how the model does beside no detector at all."""
    lines = [
        "## Results on test videos",
        "",
        f"{_whom_it_saw(whose)} 95% intervals redraw whole people or recordings.",
        "",
        NOTHING_ELSEWHERE,
        "",
        "| chunk | method | fakes | real | AUC |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in origins:
        cells = row["chunk"], row["method"], row["fakes"], row["reals"]
        auc = metrics.shown(row["roc_auc"])
        lines.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} | {auc} |")
    lines += [
        "",
        "What needs no detector, on the same videos. Of an AUC below 0.5 the fakes have less.",
        "",
        "| | AUC | above the model | AUC on pairs of like quality |",
        "| --- | --- | --- | --- |",
    ]
    model = {"words": "this model", "above_model": metrics.NOT_MEASURED, **summary["model"]}
    for row in (model, *summary["rows"]):
        cells = row["words"], *(metrics.shown(row[name], sign=sign) for name, sign in _COLUMNS)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"**{verdict_on(summary)}**"]
    lines += [f"\n**Warning:** {words}." for words in warnings_of(summary)]
    return "\n".join(lines)


def _whom_it_saw(whose: str) -> str:
    if not whose:
        return "Nobody in them was trained on."
    return (
        f"Others trained {plain(whose)}: nobody here knows whether they trained on these videos, "
        "or on people in them."
    )


_COLUMNS = (("roc_auc", ""), ("above_model", "+"), ("matched_roc_auc", ""))


def _cell(text: str) -> str:
    """Return a name as a cell of a table: one line, without the table's own mark."""
    return " ".join(text.replace("|", "/").split())
