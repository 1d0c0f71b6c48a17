"""Train on one data set, benchmark on others: what runs, what is kept, and which leaks are caught.

The data sets are made here of open faces, in different layouts; all runs are `dvc repro`.
"""

import csv
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from small_project import RATE_FPS, carry, draw_people, run, swaying

from unmask.video.encode import write_video

pytestmark = pytest.mark.slow

TRAINED, FRAMES = 5, 40  # people of the training chunk; 1.6 s
KINDS = ("raw_benchmark", "leakage", "faces_benchmark", "benchmark")


def film(path: Path, picture: object, *, crf: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = itertools.islice(swaying([picture]), FRAMES)
    write_video(path, frames, rate_fps=RATE_FPS, crf=crf)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project trained on `studio` (DFDC's layout), with a benchmark `near` (two folders)."""
    root = tmp_path_factory.mktemp("benchmarked")
    carry(root)
    people = draw_people()
    metadata: dict[str, dict[str, str]] = {}
    for number, (real, forged) in enumerate(people[:TRAINED]):
        names = f"real{number}.mp4", f"fake{number}.mp4"
        for name, picture in zip(names, (real, forged), strict=True):
            film(root / "data/chunks/studio" / name, picture)
        metadata[names[0]] = {"label": "REAL", "split": "train"}
        metadata[names[1]] = {"label": "FAKE", "split": "train", "original": names[0]}
    (root / "data/chunks/studio/metadata.json").write_text(json.dumps(metadata))
    for number, (real, forged) in enumerate(people[TRAINED:7]):
        film(root / f"data/chunks/near/real/{number}.mp4", real)
        film(root / f"data/chunks/near/fake/blended/{number}.mp4", forged)
    write_list(root, "far", list(enumerate(people[7:])))
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["chunks"], settings["benchmarks"] = ["studio"], ["near"]
    settings["raw"]["validation_ratio"] = settings["raw"]["test_ratio"] = 0.2
    settings["clips"].update(side_px=64, max_per_track=2)
    settings["model"]["weights"] = "none"
    settings["train"].update(epochs=1, milestone=1, batch_size=4)
    settings["evaluate"]["bootstrap_resamples"] = 20
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"].pop("sample")  # this project has no sources
    graph["stages"]["train"]["deps"].remove("weights/x3d_xs.safetensors")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    run(root, "git", "init", "--quiet")
    return root


def write_list(root: Path, name: str, people: list) -> None:
    """Write a benchmark in the manifest's layout, of all `test` videos."""
    folder = root / "data/chunks" / name
    rows = []
    for number, (real, forged) in people:
        for kind, picture in (("REAL", real), ("FAKE", forged)):
            path = f"{kind}{number}.mp4"
            film(folder / path, picture)
            method = "real" if kind == "REAL" else "blended"
            rows.append([path, kind, f"somebody {number}", method, "test"])
    save_rows(folder, rows)


def save_rows(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "source", "method", "split"], *rows])


def repro(root: Path, *targets: str) -> set[str]:
    """Return the stages that `dvc repro` ran on the way to the targets."""
    return ran(run(root, "dvc", "repro", *targets))


def ran(said: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", said))


def set_params(root: Path, **values: object) -> None:
    path = root / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for where, value in values.items():
        section, _, key = where.partition("__")
        if key:
            tree[section][key] = value
        else:
            tree[section] = value
    path.write_text(yaml.safe_dump(tree))


def stages_of(name: str) -> set[str]:
    return {f"{kind}@{name}" for kind in KINDS}


def metrics_of(root: Path, name: str) -> dict:
    [details] = json.loads((root / f"metrics/benchmarks/{name}.json").read_text())["details"]
    return details


def scores_of(root: Path, name: str) -> dict[str, dict[str, str]]:
    with (root / f"metrics/benchmarks/{name}/scores.csv").open(newline="") as file:
        return {row["video_id"]: row for row in csv.DictReader(file)}


def test_train_on_one_data_set_and_benchmark_on_others(root: Path) -> None:
    first = repro(root, "benchmark")
    assert first == {"params", "raw@studio", "faces@studio", "train", *stages_of("near")}
    found = metrics_of(root, "near")
    assert (found["videos"], found["real"], found["fake"]) == (4, 2, 2)
