"""README.md's table of backbones, from real runs: `make compare`.

Each run of RUNS is an experiment of DVC on the last commit: trained and evaluated in a copy of the
project. What has its name already was done, so an interrupted comparison goes on. Metrics are read
from the experiments' commits, clips/s measured here and now, on the GPU too where there is one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from unmask import backbones
from unmask.backbones import clip_logits
from unmask.geometry import Geometry
from unmask.params import Clips

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"
# Only what a backbone can't do without differs: data, epochs and learning rates are the same.
RUNS = {
    "compare-x3d_xs": ("model.backbone=x3d_xs",),
    "compare-efficientnet_lite0": ("model.backbone=efficientnet_lite0", "model.weights=imagenet"),
}
BATCH, AT_LEAST_S = 8, 3.0


@dataclass(frozen=True)
class Net:
    """A backbone's size and speed, on clips of this geometry."""

    parameters: int
    geometry: Geometry
    cpu_clips_per_s: float
    gpu_clips_per_s: float | None  # None where there is no GPU


@dataclass(frozen=True)
class Run:
    """What an experiment left in its commit."""

    model: Mapping[str, Any]  # params.yaml's sections
    clips: Clips
    test: Mapping[str, Any]  # metrics/test.json
    robustness: Mapping[str, Any] | None  # metrics/robustness.json, where there is that stage


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
    the next. The page that the table goes to may differ.
    """
    if edited := _git(root, "diff", "--name-only", "HEAD", "--", ".", ":!README.md").split():
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
    written = _git(root, "ls-tree", "--name-only", commit, "metrics/").split()
    test, robustness = "metrics/test.json", "metrics/robustness.json"
    return Run(
        model=values["model"],
        clips=Clips.model_validate(values["clips"]),
        test=json.loads(_git(root, "show", f"{commit}:{test}")),
        robustness=json.loads(_git(root, "show", f"{commit}:{robustness}"))
        if robustness in written
        else None,
    )


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


# ---------------------------------------------------------------- the table


def table(runs: Sequence[Run], nets: Sequence[Net]) -> Iterator[str]:
    """Yield the lines of the table in Markdown, and what it was measured on."""
    yield (
        "| model | starts from | parameters | a clip | CPU clips/s | GPU clips/s "
        "| test AUC | test log-loss | worst drop of AUC |"
    )
    yield "| --- | --- | ---: | --- | ---: | ---: | --- | --- | --- |"
    for run, net in zip(runs, nets, strict=True):
        gpu = net.gpu_clips_per_s
        cells = [
            f"`{run.model['backbone']}`",
            f"`{run.model['weights']}`",
            f"{net.parameters / 1e6:.1f} M",
            f"{net.geometry.frames} x {net.geometry.side_px} px",
            f"{net.cpu_clips_per_s:.1f}",
            "not measured" if gpu is None else f"{gpu:.0f}",
            _interval(run.test["video"]["roc_auc"]),
            _interval(run.test["video"]["log_loss"]),
            _worst_drop(run.robustness),
        ]
        yield "| " + " | ".join(cells) + " |"
    test = runs[0].test
    gpu_name = f" and on one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    yield ""
    yield (
        f"{test['videos']} test videos of {test['sources']} sources, 95% intervals. Clips/s: the "
        f"net alone, {BATCH} clips at once, on {torch.get_num_threads()} CPU threads{gpu_name}."
    )


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _worst_drop(robustness: Mapping[str, Any] | None) -> str:
    """Return by how much AUC falls where it falls most, and by which degradation."""
    drops = [
        (row["drop"]["roc_auc"]["value"], row["degradation"])
        for row in (robustness or {}).get("rows", [])
        if "drop" in row and row["drop"]["roc_auc"]["value"] is not None
    ]
    if not drops:
        return "-"
    drop, name = max(drops)
    return f"{drop:.3f} ({name})"


def between_marks(text: str, lines: Sequence[str]) -> str:
    """Return the text with the lines between its two marks, in the place of what was there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        sys.exit(f"The table goes between {BEGIN} and {END}, which should stand once each.")
    before, rest = text.split(BEGIN)
    return "\n".join([before + BEGIN, *lines, END + rest.split(END)[1]])


def main() -> None:
    """Run what is missing and write the table."""
    page = ROOT / "README.md"
    between_marks(page.read_text(encoding="utf-8"), [])  # before hours of training, not after
    check_committed(ROOT)
    run_missing(ROOT, RUNS)
    runs = read_runs(ROOT, RUNS)
    nets = []
    for run in runs:
        backbone = run.model["backbone"]
        nets.append(measure(backbone, run.clips.geometry(backbone)))
    lines = list(table(runs, nets))
    page.write_text(between_marks(page.read_text(encoding="utf-8"), lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
