"""docs/backbones.md's table and metrics/comparison.json, from real runs: `make compare`.

Each run of RUNS is an experiment of DVC on the last commit: trained and evaluated in a copy of the
project. What has its name already was done, so an interrupted comparison goes on; of what did not
change since another commit DVC brings back the results. Metrics and each video's score are read
from the experiments' commits, clips/s measured here and now, on the GPU too where there is one.
"""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
import torch
import yaml

from unmask.answers.provenance import COMPARISON
from unmask.geometry import Geometry
from unmask.models import backbones
from unmask.models.backbones import clip_logits
from unmask.params import Clips, Evaluate
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics
from unmask.scoring.metrics import Measured
from unmask.scoring.scores import sigmoid

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"
PAGE, SCORES = "docs/backbones.md", "metrics/scores.csv"
# The first is compared with each of the others. Only what a start can't do without differs: data,
# epochs and learning rates are the same.
RUNS = {
    "compare-x3d_xs": ("model.backbone=x3d_xs", "model.weights=weights/x3d_xs.safetensors"),
    "compare-x3d_xs-none": (  # layers of random weights that never learn would be a straw man
        "model.backbone=x3d_xs", "model.weights=none", "train.unfreeze_top_layers=5",
    ),
    "compare-efficientnet_lite0": ("model.backbone=efficientnet_lite0", "model.weights=imagenet"),
}  # fmt: skip
COMPARED = {"roc_auc": metrics.METRICS["roc_auc"], "log_loss": metrics.METRICS["log_loss"]}
BATCH, AT_LEAST_S = 8, 3.0

Summary = dict[str, Any]


@dataclass(frozen=True)
class Net:
    """A backbone's size and speed, on clips of this geometry."""

    parameters: int
    geometry: Geometry
    cpu_clips_per_s: float
    gpu_clips_per_s: float | None  # None where there is no GPU


@dataclass(frozen=True)
class Scored:
    """A test video's answer by one run; probability is None where there was none."""

    label: int
    source: str
    probability: float | None


@dataclass(frozen=True)
class Run:
    """What an experiment left in its commit."""

    model: Mapping[str, Any]  # params.yaml's sections
    clips: Clips
    evaluate: Evaluate
    model_md5: str  # of the folder, as dvc.lock has it
    test: Mapping[str, Any]  # metrics/test.json
    robustness: Mapping[str, Any] | None  # metrics/robustness.json, where there is that stage
    scores: Mapping[tuple[str, str], Scored]  # of the test videos, by chunk and video


# ---------------------------------------------------------------- experiments


def run_missing(root: Path, runs: Mapping[str, Sequence[str]]) -> None:
    """Run, one after the other, what the last commit has no experiment of."""
    for name in sorted(set(runs) - set(experiments(root)), key=list(runs).index):
        settings = [word for setting in runs[name] for word in ("-S", setting)]
        command = ["dvc", "exp", "run", "--temp", "--name", name, *settings]
        subprocess.run(command, cwd=root, check=True)


def check_committed(root: Path) -> None:
    """Pass if the files in Git are the last commit's, or exit: experiments would take them along.

    An experiment is known by that commit and its name, so one of an edit since would be kept for
    the next. What this script writes may differ.
    """
    paths = (".", f":!{PAGE}", f":!{COMPARISON}")
    if edited := _git(root, "diff", "--name-only", "HEAD", "--", *paths).split():
        sys.exit(
            f"The comparison is of the last commit; {', '.join(edited)} differ from it. Commit or "
            "stash them and run this again."
        )


def experiments(root: Path) -> dict[str, str]:
    """Return the commit of each experiment on the last commit, by its name."""
    head = _git(root, "rev-parse", "HEAD").strip()
    folder = f"refs/exps/{head[:2]}/{head[2:]}/"
    listed = _git(root, "for-each-ref", "--format=%(refname) %(objectname)", folder)
    pairs = (line.split(" ") for line in listed.splitlines())
    return {name.removeprefix(folder): commit for name, commit in pairs}


def read_runs(root: Path, runs: Mapping[str, Sequence[str]]) -> list[Run]:
    """Return what each run left; DVC makes an experiment also of the last commit's own settings."""
    there = experiments(root)
    return [_read_run(root, there[name], name, runs[name]) for name in runs]


def _read_run(root: Path, commit: str, name: str, settings: Sequence[str]) -> Run:
    values = yaml.safe_load(_git(root, "show", f"{commit}:params.yaml"))
    for setting in settings:
        key, wanted = setting.split("=", 1)
        section, field = key.split(".")
        if str(values[section][field]) != wanted:
            sys.exit(
                f"{name} should have {setting}; found {values[section][field]} in {commit}. "
                f"Remove the experiment (`dvc exp remove {name}`) and run this again."
            )
    lock = yaml.safe_load(_git(root, "show", f"{commit}:dvc.lock"))["stages"]["evaluate"]
    written = _git(root, "ls-tree", "--name-only", commit, "metrics/").split()
    test, robustness = "metrics/test.json", "metrics/robustness.json"
    return Run(
        model=values["model"],
        clips=Clips.model_validate(values["clips"]),
        evaluate=Evaluate.model_validate(values["evaluate"]),
        model_md5=next(read["md5"] for read in lock["deps"] if read["path"] == "model"),
        test=json.loads(_git(root, "show", f"{commit}:{test}")),
        robustness=json.loads(_git(root, "show", f"{commit}:{robustness}"))
        if robustness in written
        else None,
        scores=_read_scores(dvc.api.read(SCORES, repo=str(root), rev=commit)),
    )


def _read_scores(text: str) -> dict[tuple[str, str], Scored]:
    """Return the test videos' answers by their logits: the probabilities beside them are rounded,
    and a sure model's become ties at 0 and 1.
    """
    return {
        (row["chunk"], row["video_id"]): Scored(
            int(row["label"]),
            row["source_id"],
            float(sigmoid(float(row["logit"]))) if row["logit"] else None,
        )
        for row in csv.DictReader(text.splitlines())
        if row["split"] == "test"
    }


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


# ---------------------------------------------------------------- size and speed


def measure(backbone: str, geometry: Geometry) -> Net:
    """Return a backbone's size and speed; random weights, as these do not change it."""
    net = backbones.build(backbone, dropout=0.5).eval()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    on_gpu = _clips_per_s(net.cuda(), geometry, "cuda") if torch.cuda.is_available() else None
    net = net.cpu()
    backbones.lay_out_for_cpu(net)
    return Net(parameters, geometry, _clips_per_s(net, geometry, "cpu"), on_gpu)


@torch.inference_mode()
def _clips_per_s(net: torch.nn.Module, geometry: Geometry, device: str) -> float:
    shape = (BATCH, 3, geometry.frames, geometry.side_px, geometry.side_px)
    clips_BCTHW = torch.randn(shape, device=device)
    clip_logits(net, clips_BCTHW).cpu()  # the first is slower
    done, seconds, started = 0, 0.0, time.monotonic()
    while not done or seconds < AT_LEAST_S:
        clip_logits(net, clips_BCTHW).cpu()  # waits for the GPU
        done, seconds = done + BATCH, time.monotonic() - started
    return done / seconds


# ---------------------------------------------------------------- what was found


def summarise(runs: Sequence[Run], nets: Sequence[Net]) -> Summary:
    """Return what metrics/comparison.json holds: a row for each run, beside the first one."""
    first = runs[0]
    return {
        "videos": first.test["videos"],
        "sources": first.test["sources"],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "rows": [_row(run, net, first) for run, net in zip(runs, nets, strict=True)],
    }


def _row(run: Run, net: Net, first: Run) -> Summary:
    row: Summary = {
        "backbone": run.model["backbone"], "weights": run.model["weights"],
        "model_md5": run.model_md5, "parameters": net.parameters, "frames": net.geometry.frames,
        "side_px": net.geometry.side_px, "cpu_clips_per_s": round(net.cpu_clips_per_s, 1),
        "gpu_clips_per_s": None if net.gpu_clips_per_s is None else round(net.gpu_clips_per_s),
        "coverage": run.test["coverage"], "worst_drop": _worst_drop(run.robustness),
    } | {name: run.test["video"][name] for name in COMPARED}  # fmt: skip
    if run is not first:
        row["first_minus_this"] = _differences(first, run)
    return row


def _differences(first: Run, other: Run) -> dict[str, Measured]:
    """Return the first run's metrics minus the other's, over the videos that both scored."""
    if first.scores.keys() != other.scores.keys():
        sys.exit("The runs were not tested on the same videos; remove the older experiments.")
    return {
        name: metrics.measure_difference(
            metric,
            [each.label for each in first.scores.values()],
            [each.probability for each in first.scores.values()],
            [other.scores[place].probability for place in first.scores],
            [each.source for each in first.scores.values()],
            resamples=first.evaluate.bootstrap_resamples, seed=first.evaluate.seed,
        )
        for name, metric in COMPARED.items()
    }  # fmt: skip


def _worst_drop(robustness: Mapping[str, Any] | None) -> Summary | None:
    """Return by how much AUC falls where it falls most, and by which degradation."""
    drops = [
        {"degradation": row["degradation"], "roc_auc": row["drop"]["roc_auc"]}
        for row in (robustness or {}).get("rows", [])
        if "drop" in row and row["drop"]["roc_auc"]["value"] is not None
    ]
    return max(drops, key=lambda drop: drop["roc_auc"]["value"], default=None)


def table(summary: Summary) -> Iterator[str]:
    """Yield the lines of the table in Markdown, and what it was measured on."""
    yield (
        "| model | starts from | parameters | a clip | CPU clips/s | GPU clips/s "
        "| test AUC | first's minus its own | test log-loss | first's minus its own "
        "| worst drop of AUC |"
    )
    yield "| --- | --- | ---: | --- | ---: | ---: | --- | --- | --- | --- | --- |"
    for row in summary["rows"]:
        gpu, drop = row["gpu_clips_per_s"], row["worst_drop"]
        ahead = row.get("first_minus_this")
        cells = [
            f"`{row['backbone']}`",
            f"`{row['weights']}`",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['frames']} x {row['side_px']} px",
            f"{row['cpu_clips_per_s']:.1f}",
            "not measured" if gpu is None else f"{gpu}",
            metrics.shown(row["roc_auc"]),
            metrics.shown(ahead["roc_auc"], sign="+") if ahead else "",
            metrics.shown(row["log_loss"]),
            metrics.shown(ahead["log_loss"], sign="+") if ahead else "",
            f"{metrics.shown(drop['roc_auc'])} ({drop['degradation']})" if drop else "-",
        ]
        yield "| " + " | ".join(cells) + " |"
    gpu_name = f" and on one {summary['gpu']}" if summary["gpu"] else ""
    yield ""
    yield (
        f"{summary['videos']} test videos of {summary['sources']} sources, 95% intervals; "
        f"differences and drops are paired. Clips/s: the net alone, {BATCH} clips at once, on "
        f"{summary['threads']} CPU threads{gpu_name}."
    )


def between_marks(text: str, lines: Sequence[str]) -> str:
    """Return the text with the lines between its two marks, in the place of what was there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        sys.exit(f"The table goes between {BEGIN} and {END}, which should stand once each.")
    before, rest = text.split(BEGIN)
    return "\n".join([before + BEGIN, *lines, END + rest.split(END)[1]])


def main() -> None:
    """Run what is missing, write the summary and the table."""
    page = ROOT / PAGE
    between_marks(page.read_text(encoding="utf-8"), [])  # before hours of training, not after
    check_committed(ROOT)
    run_missing(ROOT, RUNS)
    runs = read_runs(ROOT, RUNS)
    nets = []
    for run in runs:
        backbone = run.model["backbone"]
        nets.append(measure(backbone, run.clips.geometry(backbone)))
    summary = summarise(runs, nets)
    write_atomically(ROOT / COMPARISON, json.dumps(summary, indent=2) + "\n")
    lines = list(table(summary))
    page.write_text(between_marks(page.read_text(encoding="utf-8"), lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
