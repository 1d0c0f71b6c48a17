"""Train on one data set, benchmark on others: what runs, what is kept, and which leaks are caught.

The data sets are made here of open faces, in different layouts; all runs are `dvc repro`.
"""

import csv
import itertools
import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from small_project import (
    RATE_FPS,
    ask_mlflow,
    call,
    carry,
    draw_people,
    ran,
    run,
    set_params,
    swaying,
)

from unmask.cli.main import main
from unmask.video.decode import read_frames
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


def stages_of(name: str) -> set[str]:
    return {f"{kind}@{name}" for kind in KINDS}


def metrics_of(root: Path, name: str) -> dict:
    [details] = json.loads((root / f"metrics/benchmarks/{name}.json").read_text())["details"]
    return details


def scores_of(root: Path, name: str) -> dict[str, dict[str, str]]:
    with (root / f"metrics/benchmarks/{name}/scores.csv").open(newline="") as file:
        return {row["video_id"]: row for row in csv.DictReader(file)}


def files_of(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


RUNS = """
runs = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("unmask").experiment_id])
[parent] = [run for run in runs if run.data.params.get("train.epochs")]
[child] = [run for run in runs if run.data.params.get("benchmark") == "near"]
answer = [child.data.tags["mlflow.parentRunId"] == parent.info.run_id, child.info.run_name,
          child.data.metrics["video.roc_auc.value"]]
"""


def test_train_on_one_data_set_and_benchmark_on_another(root: Path) -> None:
    first = repro(root, "benchmark")
    assert first == {"params", "raw@studio", "faces@studio", "train", *stages_of("near")}
    found, scores = metrics_of(root, "near"), scores_of(root, "near")
    assert (found["videos"], found["real"], found["fake"], found["coverage"]) == (4, 2, 2, 1.0)
    assert found["left_out"] == {"file": 0, "pictures": 0, "identity": 0}
    assert found["methods"].keys() == {"blended"}
    assert found["trained_on"] == ["studio"]
    # The AUC by hand, of the scores that are written beside it.
    fakes, reals = (
        [float(row["logit"]) for row in scores.values() if row["label"] == label] for label in "10"
    )
    won = [(fake > real) + (fake == real) / 2 for fake in fakes for real in reals]
    assert found["video"]["roc_auc"]["value"] == pytest.approx(sum(won) / 4)
    beside = found["without_detector"]
    assert beside["direction_from"] == "training videos"
    assert [row["name"] for row in beside["rows"]][::6] == ["face_px", "frozen_net"]
    assert (root / "plots/benchmarks/near/roc.png").is_file()
    is_nested, name, auc = ask_mlflow(root, RUNS)
    assert (is_nested, name) == (True, "benchmark near")
    assert auc == pytest.approx(found["video"]["roc_auc"]["value"])
    again = repro(root, "benchmark")
    assert again == set()


def test_the_command_gives_the_pipeline_s_model_the_same_scores(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    done = CliRunner().invoke(main, ["benchmark", "near", "--as", "again"])
    assert done.exit_code == 0, done.output
    again = (root / "metrics/detectors/near/again.csv").read_bytes()
    assert again == (root / "metrics/benchmarks/near/scores.csv").read_bytes()


def test_a_second_benchmark_comes_with_leaks_changes_its_list_and_goes(root: Path) -> None:
    def written() -> dict[str, int]:
        folders = ("metrics", "held_out/faces", "model", "faces", "plots")
        return {
            f"{folder}/{name}": time
            for folder in folders for name, time in files_of(root / folder).items()
        }  # fmt: skip

    before = written()
    plant_leaks(root)
    set_params(root, benchmarks=["near", "far"])
    failed = call(root, "dvc", "repro", "benchmark@far", UNMASK_TRACKER="none")
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert ran(said) == {"params", "raw_benchmark@far", "leakage@far"}  # before it is cropped
    assert "1 video(s) are files that were trained on: copied.mp4 = studio/" in said
    assert "1 video(s) look like one that was trained on: encoded.mp4 = studio/" in said
    assert "1 video(s) show a person or recording that was trained on: REAL0.mp4 = real" in said

    set_params(root, benchmark__shared="leave_out")
    done = ran(run(root, "dvc", "repro", "benchmark", UNMASK_TRACKER="none"))
    # What the first two write of near is as it was: it is neither cropped nor scored again.
    assert done == {"params", "raw_benchmark@near", "leakage@near", *stages_of("far")}
    found = metrics_of(root, "far")
    assert found["left_out"] == {"file": 1, "pictures": 1, "identity": 1}
    assert scores_of(root, "far").keys() == {"FAKE0", "REAL1", "FAKE1"}
    after = written()
    assert {name: after[name] for name in before} == before

    drop_row(root, "FAKE0.mp4")
    done = ran(run(root, "dvc", "repro", "faces_benchmark@far", UNMASK_TRACKER="none"))
    assert done == {"raw_benchmark@far", "leakage@far", "faces_benchmark@far"}
    now = written()
    crops = {name for name in now if name.startswith("held_out/faces/far/REAL1_")}
    assert crops
    assert {name: now[name] for name in crops} == {name: after[name] for name in crops}
    due = ran(run(root, "dvc", "repro", "--dry", "benchmark"))
    assert due == {"benchmark@far"}

    set_params(root, benchmarks=["near"])
    due = ran(run(root, "dvc", "repro", "--dry", "benchmark"))
    assert due == {"params"}
    assert (root / "metrics/benchmarks/far.json").is_file()  # kept for when it comes back


def plant_leaks(root: Path) -> None:
    """Let `far` hold a file and pictures that were trained on, and name a person who was."""
    with (root / "raw/studio/index.csv").open(newline="") as file:
        trained = [row for row in csv.DictReader(file) if row["split"] == "train"]
    studio, far = root / "data/chunks/studio", root / "data/chunks/far"
    [real, other, *_] = [row for row in trained if row["label"] == "0"]
    shutil.copyfile(studio / real["file"], far / "copied.mp4")
    pictures = (frame.rgb_HWC()[::2, ::2] for frame in read_frames(studio / other["file"]))
    write_video(far / "encoded.mp4", pictures, rate_fps=RATE_FPS, crf=32)
    rows = read_rows(far)
    for row in rows:
        if row[0] == "REAL0.mp4":
            row[2] = real["source_id"]
    rows += [[name, "REAL", name, "real", "test"] for name in ("copied.mp4", "encoded.mp4")]
    save_rows(far, rows)


def read_rows(folder: Path) -> list[list[str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    return rows


def drop_row(root: Path, path: str) -> None:
    folder = root / "data/chunks/far"
    save_rows(folder, [row for row in read_rows(folder) if row[0] != path])
