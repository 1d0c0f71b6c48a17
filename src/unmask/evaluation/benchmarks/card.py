"""A model's results on benchmarks, first in its card, and as a file that its folder can carry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import compare
from unmask.evaluation.benchmarks.compared import Compared, Row
from unmask.evaluation.benchmarks.gather import Benchmark
from unmask.evaluation.published_card import NOTHING_ELSEWHERE
from unmask.models.card_head import hub_name, read_head, split_head, with_head
from unmask.params import Evaluate
from unmask.scoring import metrics

FORMAT = 1
_TITLE = "## Results on data sets that it was not trained on"
_CHAPTER = "\n## "


def results_of(
    model_digest: str, benchmarks: Sequence[Benchmark], settings: Evaluate
) -> dict[str, Any]:
    """Return a model's results on the benchmarks that it was scored on, ready for JSON.

    model_digest is runtime.digests.model_digest of its folder: other models' scores are left out.
    Benchmarks that it saw in training come last, marked.

    Raises:
        DatasetError: it was scored on none.
    """
    rows = []
    for benchmark in benchmarks:
        own = [
            each for each in benchmark.detectors if each.detector.model_digest == model_digest
        ]  # fmt: skip
        if own:
            found = compare.compare(replace(benchmark, detectors=own[:1]), settings)
            rows.append(_result(found, found.rows[0]))
    if not rows:
        raise DatasetError(
            f"Asked for the results of the model {model_digest[:12]}...; it was scored on none of "
            f"{len(benchmarks)} benchmarks. Score it with `unmask benchmark NAME --model MODEL`."
        )
    rows.sort(key=lambda row: bool(row["saw_it"]))
    return {"format": FORMAT, "model_digest": model_digest, "benchmarks": rows}


def _result(compared: Compared, row: Row) -> dict[str, Any]:
    plain = [each for each in compared.rows if not each.is_detector]
    known = [each for each in plain if each.measures["roc_auc"]["value"] is not None]
    best = max(known, key=lambda each: each.measures["roc_auc"]["value"] or 0.0, default=None)
    return {
        "name": compared.name,
        "real": compared.videos - compared.fakes,
        "fake": compared.fakes,
        "sources": compared.sources,
        "coverage": row.scored / compared.videos,
        "saw_it": row.saw_it,
        "roc_auc": row.measures["roc_auc"],
        "tpr_at_fpr_5": row.measures["tpr_at_fpr_5"],
        "matched_roc_auc": row.measures["matched_auc"],
        "without_detector": None
        if best is None
        else {"words": best.words, "roc_auc": best.measures["roc_auc"]},
    }


def with_results(card: str, results: Mapping[str, Any]) -> str:
    """Return a model's card whose first chapter is its results on benchmarks; any older one goes.

    Results on videos like those it was trained on stay where they are, after it. The head's
    model-index, by which the Hugging Face Hub shows results, has the benchmarks first, too.

    Raises:
        ValueError: the card's head is no YAML.
    """
    head = read_head(card)
    index = head.get("model-index")
    if not (isinstance(index, list) and index and isinstance(index[0], dict)):
        index = [{"name": str(head.get("library_name", "unmask")), "results": []}]
    names = [hub_name(row["name"]) for row in results["benchmarks"]]
    others = [
        each for each in index[0].get("results") or []
        if each.get("dataset", {}).get("type") not in names
    ]  # fmt: skip
    own = [_index_row(r) for r in results["benchmarks"] if r["roc_auc"]["value"] is not None]
    head["model-index"] = [{**index[0], "results": [*own, *others]}]
    _, body = split_head(card)
    before, *chapters = body.split(_CHAPTER)
    chapters = [
        each.replace(f"{NOTHING_ELSEWHERE}\n\n", "")  # something is known now
        for each in chapters
        if not each.startswith(_TITLE.removeprefix("## "))
    ]
    text = _CHAPTER.join([before, _chapter(results["benchmarks"]), *chapters])
    return with_head(head, text)


def as_json(results: Mapping[str, Any]) -> str:
    """Return the file that a model's folder carries: benchmarks.json."""
    return json.dumps(results, indent=2, allow_nan=False) + "\n"


def _chapter(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        _TITLE.removeprefix("## "),
        "",
        "AUC is the chance that a fake scores above a real video. 95% intervals redraw whole",
        "people or recordings. Best without a detector is the best of face width, sharpness, file",
        "size and the like on the same videos. Like pairs have about one face width and",
        "sharpness.",
        "",
        "| data set | real | fake | scored | AUC | fakes found at 5% FPR | AUC on like pairs | "
        "best without a detector |",
        "| --- | ---: | ---: | ---: | --- | --- | --- | --- |",
    ]
    for row in rows:
        plain = row["without_detector"]
        cells = [
            row["name"] + (" (seen in training)" if row["saw_it"] else ""),
            f"{row['real']:,}", f"{row['fake']:,}", f"{row['coverage']:.1%}",
            *(metrics.shown(row[name]) for name in ("roc_auc", "tpr_at_fpr_5", "matched_roc_auc")),
            "-" if plain is None else f"{metrics.shown(plain['roc_auc'])} {plain['words']}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(' '.join(c.replace('|', '/').split()) for c in cells)} |")
    return "\n".join([*lines, ""])


def _index_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a benchmark's row as a model-index has it."""
    auc = row["roc_auc"]
    name = f"AUC over {row['fake']} fakes and {row['real']} real videos"
    if row["coverage"] < 1:
        name += f", of which {row['coverage']:.1%} have a score"
    if auc["low"] is not None:
        name += f" (95% interval {auc['low']:.3f} to {auc['high']:.3f})"
    if row["saw_it"]:
        name += ", seen in training"
    return {
        "task": {"type": "video-classification", "name": "Telling fake faces from real ones"},
        "dataset": {"name": row["name"], "type": hub_name(row["name"]), "split": "test"},
        "metrics": [{"type": "roc_auc", "name": name, "value": round(auc["value"], 4)}],
    }
