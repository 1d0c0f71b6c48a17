"""A chunk made by hand, with what goes wrong in the wild, through every stage as users run them."""

import csv
import json
import sys

import pytest
from small_project import ask_mlflow, predict, run

from unmask.records import Reason
from unmask.runtime.record_files import read_faces, read_index

pytestmark = pytest.mark.slow


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
        "not_a_video": Reason.NOT_A_VIDEO,
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


def test_what_needs_no_detector_stands_beside_the_model(project):
    found = json.loads((project / "metrics/baselines.json").read_text())
    for split in found["splits"]:
        metrics = json.loads((project / f"metrics/{split['split']}.json").read_text())
        assert split["videos"] == metrics["video"]["count"]
        auc, known = split["model"]["roc_auc"]["value"], metrics["video"]["roc_auc"]["value"]
        assert auc == pytest.approx(known)
        rows = {row["name"]: row for row in split["rows"]}
        assert set(rows) == {
            "face_px", "sharpness", "grain", "saturation", "file_bytes", "bits_per_s", "frozen_net",
        }  # fmt: skip
        assert all(row["videos"] == split["videos"] for row in rows.values())
    card = (project / "metrics/MODEL_CARD.md").read_text()
    trained = (project / "model/MODEL_CARD.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "model-index:" in card
    assert "## Results on test videos" in card
    assert trained.partition("## What it is for")[2][:300] in card


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
        "runs = mlflow.search_runs(experiment_names=['unmask'], output_format='list')\n"
        "answer = [[r.info.run_id, r.info.status, r.data.metrics, r.data.params, r.data.tags]"
        " for r in runs]"
    )
    [[run_id, status, metrics, params, tags]] = ask_mlflow(project, script)
    assert status == "FINISHED"
    key = json.loads((project / "model/checkpoint.json").read_text())["run_key"]
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
    [answer] = predict(project, clip)
    assert answer["probability"] == pytest.approx(float(row["probability"]), abs=1e-3)


def test_unmask_log_registers_the_same_model_under_another_alias(project):
    said = run(project, sys.executable, "-m", "unmask", "log", "--register", "second")
    assert "is second" in said
    script = (
        "client = mlflow.MlflowClient()\n"
        "found = [client.get_model_version_by_alias('unmask', a) for a in ('champion', 'second')]\n"
        "answer = [[v.version, v.tags] for v in found]"
    )
    champion, second = ask_mlflow(project, script)
    assert champion == second
    test = json.loads((project / "metrics/test.json").read_text())
    assert float(second[1]["test.video.log_loss.value"]) == pytest.approx(
        test["video"]["log_loss"]["value"], rel=1e-4
    )


def test_the_registered_model_answers_as_predict_does(project):
    script = (
        "model = mlflow.pyfunc.load_model('models:/unmask@champion')\n"
        "rows = model.predict(pandas.DataFrame({'path': sys.argv[1:]}))\n"
        "answer = json.loads(rows.to_json(orient='records'))"
    )
    clips = [f"data/chunks/wild/{name}.mp4" for name in ("real0", "zero_bytes")]
    rows = ask_mlflow(project, script, *clips)
    lines = predict(project, *clips)
    assert rows[0]["probability"] == pytest.approx(lines[0]["probability"], abs=1e-6)
    assert (rows[1]["probability"], rows[1]["reason"]) == (None, "empty")
    assert (rows[1]["verdict"], rows[1]["doubts"]) == ("inconclusive", "no_score")
