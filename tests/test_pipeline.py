"""A chunk made by hand, with what goes wrong in the wild, through every stage as users run them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from unmask.blend import draw_recipe, forge_frame
from unmask.faces import Detector
from unmask.params import Detect
from unmask.records import Reason, read_faces, read_index
from unmask.video import write_video

ROOT = Path(__file__).parents[1]
STILLS = sorted((ROOT / "data/sources/stills").glob("*_neutral.jpg"))[:9]
FRAMES, RATE_FPS, SIDE_PX = 60, 25.0, 256

pytestmark = pytest.mark.slow


def swaying(pictures, *, canvas=(SIDE_PX, SIDE_PX)):
    """Yield frames in which the pictures stand side by side and sway by a few pixels."""
    width, height = canvas
    for index in range(FRAMES):
        frame = np.full((height, width, 3), 90, np.uint8)
        for place, picture in enumerate(pictures):
            left = place * SIDE_PX + 4 + index % 5
            frame[4 : 4 + SIDE_PX - 12, left : left + SIDE_PX - 12] = picture[
                : SIDE_PX - 12, : SIDE_PX - 12
            ]
        yield frame


@pytest.fixture(scope="module")
def people():
    """Return (real picture, forged picture) of nine people."""
    detector = Detector(
        Detect(max_side_px=512, min_face_px=30, thresholds=(0.6, 0.7, 0.7), min_score=0.9)
    )
    pairs = []
    for seed, path in enumerate(STILLS):
        still = cv2.resize(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), (SIDE_PX, SIDE_PX))
        [[face, *_]] = detector.detect([still])
        rng = np.random.default_rng(seed)
        points = np.array(face.points_52, np.float32)
        forged, _ = forge_frame(still, points, draw_recipe("self_blend", rng), rng)
        pairs.append((still, forged))
    return pairs


@pytest.fixture(scope="module")
def project(tmp_path_factory, people):
    """Return a repository of its own that has run all stages on the chunk `wild`."""
    root = tmp_path_factory.mktemp("project")
    for name in ("src", "stages", "dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore"):
        source, target = ROOT / name, root / name
        target.parent.mkdir(exist_ok=True, parents=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    make_chunk(root / "data/chunks/wild", people)
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["chunks"] = ["wild"]
    settings["raw"]["fakes_per_real"] = 2.0
    settings["raw"]["validation_ratio"] = settings["raw"]["test_ratio"] = 0.25
    settings["clips"].update(side_px=64, max_per_track=2)
    settings["model"]["weights"] = "none"
    settings["train"].update(epochs=2, milestone=1, batch_size=4)
    settings["evaluate"]["bootstrap_resamples"] = 50
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"].pop("sample")  # this project has no sources
    graph["stages"]["train"]["deps"].remove("weights/x3d_xs.safetensors")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "repro")
    return root


def make_chunk(folder, people):
    """Write nine people's real and fake videos, and seven files that are not like them."""
    folder.mkdir(parents=True)
    metadata = {}

    def add(name, label, original=None):
        metadata[name] = {"label": label, "split": "train"}
        if original:
            metadata[name]["original"] = original
        return folder / name

    for number, (real, forged) in enumerate(people):
        path = add(f"real{number}.mp4", "REAL")
        write_video(path, swaying([real]), rate_fps=RATE_FPS, crf=20)
        path = add(f"fake{number}.mp4", "FAKE", f"real{number}.mp4")
        write_video(path, swaying([forged]), rate_fps=RATE_FPS, crf=20)
    path = add("two_faces.mp4", "FAKE", "real0.mp4")
    two = swaying([people[0][1], people[1][0]], canvas=(2 * SIDE_PX, SIDE_PX))
    write_video(path, two, rate_fps=RATE_FPS, crf=20)
    wall = np.full((SIDE_PX, SIDE_PX, 3), 120, np.uint8)
    write_video(
        add("faceless.mp4", "FAKE", "real1.mp4"), [wall] * FRAMES, rate_fps=RATE_FPS, crf=20
    )
    write_video(
        add("one_frame.mp4", "FAKE", "real2.mp4"), [next(swaying([people[2][1]]))],
        rate_fps=RATE_FPS, crf=20,
    )  # fmt: skip
    path = add("truncated.mp4", "FAKE", "real3.mp4")
    long = [*swaying([people[3][1]]), *swaying([people[3][1]])]
    write_video(path, long, rate_fps=RATE_FPS, crf=20)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    add("zero_bytes.mp4", "FAKE", "real4.mp4").write_bytes(b"")
    add("not_a_video.mp4", "FAKE", "real5.mp4").write_text("<html>404</html>")
    add("not_there.mp4", "FAKE", "real6.mp4")
    (folder / "metadata.json").write_text(json.dumps(metadata))


def run(root, *command):
    """Run a command of the project's own, as in an activated environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root / "src")}
    for name in ("MLFLOW_TRACKING_URI", "UNMASK_TRACKER"):
        environment.pop(name, None)
    environment["UNMASK_REGISTER"] = "champion"
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_video_has_its_row_and_its_reason(project):
    faces = read_faces(project / "faces/wild/index.jsonl")
    listed = {record.video_id for record in read_index(project / "raw/wild/index.csv")}
    assert listed - set(faces) == {"not_there"}
    reasons = {video_id: found.reason for video_id, found in faces.items() if found.reason}
    assert reasons == {
        "faceless": Reason.NO_FACE,
        "one_frame": Reason.TOO_SHORT,
        "truncated": Reason.TRUNCATED,
        "zero_bytes": Reason.EMPTY,
        "not_a_video": Reason.UNREADABLE,
    }
    assert [len(faces[name].tracks) for name in ("two_faces", "real0")] == [2, 1]


def test_a_source_stands_on_one_side(project):
    sides = {}
    for record in read_index(project / "raw/wild/index.csv"):
        sides.setdefault(record.source_id, set()).add(record.split)
    assert len(sides) == 9
    assert all(len(splits) == 1 for splits in sides.values())


def test_metrics_count_what_has_no_score(project):
    records = read_index(project / "raw/wild/index.csv")
    with (project / "metrics/scores.csv").open(newline="") as lines:
        rows = {row["video_id"]: row for row in csv.DictReader(lines)}
    for split in ("validation", "test"):
        own = {record.video_id for record in records if record.split == split}
        metrics = json.loads((project / f"metrics/{split}.json").read_text())
        assert {video_id for video_id, row in rows.items() if row["split"] == split} == own
        scored = [video_id for video_id in own if rows[video_id]["probability"]]
        assert metrics["videos"] == len(own)
        assert metrics["coverage"] == pytest.approx(len(scored) / len(own))
        assert metrics["video"]["count"] == len(scored)
        assert all(rows[video_id]["reason"] for video_id in own - set(scored))


def test_a_second_run_does_nothing(project):
    assert "Data and pipelines are up to date" in run(project, "dvc", "repro")


def test_a_new_label_does_not_crop_again(project):
    path = project / "data/chunks/wild/metadata.json"
    before = path.read_text()
    metadata = json.loads(before)
    metadata["fake0.mp4"]["method"] = "self_blend"
    path.write_text(json.dumps(metadata))
    said = run(project, "dvc", "repro", "--dry")
    path.write_text(before)
    assert "raw@wild" in said
    crops = {p: p.stat().st_mtime_ns for p in (project / "faces/wild").glob("*.mp4")}
    run(project, "dvc", "repro", "faces@wild")
    assert crops == {p: p.stat().st_mtime_ns for p in (project / "faces/wild").glob("*.mp4")}


def test_train_and_evaluate_are_one_run_in_mlflow(project):
    script = (
        "import json, mlflow\n"
        "mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
        "runs = mlflow.search_runs(experiment_names=['unmask'], output_format='list')\n"
        "print(json.dumps([[r.info.run_id, r.info.status, r.data.metrics, r.data.params,"
        " r.data.tags] for r in runs]))"
    )
    said = run(project, sys.executable, "-c", script)
    [[run_id, status, metrics, params, tags]] = json.loads(said[said.index("[[") :].splitlines()[0])
    assert status == "FINISHED"
    key = json.loads((project / "model/checkpoint.json").read_text())["run_id"]
    assert tags["unmask.run"] == key
    assert run_id != key  # the place's name of a run is not part of the model
    test = json.loads((project / "metrics/test.json").read_text())
    assert metrics["test.video.log_loss.value"] == pytest.approx(test["video"]["log_loss"]["value"])
    assert {"train_loss", "val_loss", "lr_head", "lr_top"} <= set(metrics)
    assert params["model.backbone"] == "x3d_xs"
    assert any(name.startswith("data.") for name in tags)


def test_predict_agrees_with_evaluate(project):
    with (project / "metrics/scores.csv").open(newline="") as lines:
        row = next(row for row in csv.DictReader(lines) if row["probability"])
    clip = f"data/chunks/wild/{row['video_id']}.mp4"
    said = run(project, sys.executable, "-m", "unmask", "predict", "--json", clip)
    answer = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert answer["probability"] == pytest.approx(float(row["probability"]), abs=1e-3)


def test_unmask_log_registers_the_same_model_under_another_alias(project):
    said = run(project, sys.executable, "-m", "unmask", "log", "--register", "second")
    assert "is second" in said
    script = (
        "import json, mlflow\n"
        "client = mlflow.MlflowClient('sqlite:///mlflow.db')\n"
        "found = [client.get_model_version_by_alias('unmask', a) for a in ('champion', 'second')]\n"
        "print('FOUND', json.dumps([[v.version, v.tags] for v in found]))"
    )
    said = run(project, sys.executable, "-c", script)
    line = next(line for line in said.splitlines() if line.startswith("FOUND"))
    champion, second = json.loads(line.removeprefix("FOUND"))
    assert champion == second
    test = json.loads((project / "metrics/test.json").read_text())
    assert float(second[1]["test.video.log_loss.value"]) == pytest.approx(
        test["video"]["log_loss"]["value"], rel=1e-4
    )


def test_the_registered_model_answers_as_predict_does(project):
    script = (
        "import mlflow, pandas, sys\n"
        "mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
        "model = mlflow.pyfunc.load_model('models:/unmask@champion')\n"
        "rows = model.predict(pandas.DataFrame({'path': sys.argv[1:]}))\n"
        "print('ROWS', rows.to_json(orient='records'))"
    )
    clips = [f"data/chunks/wild/{name}.mp4" for name in ("real0", "zero_bytes")]
    said = run(project, sys.executable, "-c", script, *clips)
    line = next(line for line in said.splitlines() if line.startswith("ROWS"))
    rows = json.loads(line.removeprefix("ROWS"))
    said = run(project, sys.executable, "-m", "unmask", "predict", "--json", *clips)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert rows[0]["probability"] == pytest.approx(lines[0]["probability"], abs=1e-6)
    assert (rows[1]["probability"], rows[1]["reason"]) == (None, "empty")
