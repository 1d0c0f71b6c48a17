"""A small repository that has run all stages on a chunk made by hand, for the slow tests."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

from unmask.faces.detector import Detector
from unmask.forgeries.blend import draw_recipe, forge_frame
from unmask.params import Detect
from unmask.video.encode import write_video

ROOT = Path(__file__).parents[2]
STILLS = sorted((ROOT / "data/sources/stills").glob("*_neutral.jpg"))[:9]
FRAMES, RATE_FPS, SIDE_PX = 60, 25.0, 256
CARRIED = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
    "params.yaml",
    "src",
    "stages",
)


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


def draw_people():
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


def carry(root):
    """Copy what makes a folder a project like this one, without its data."""
    for name in CARRIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(exist_ok=True, parents=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def leave_out(root, *stages):
    """Take stages, and the plots of what they write, out of the graph."""
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    for stage in stages:
        graph["stages"].pop(stage)
    graph["plots"] = [
        plot for plot in graph["plots"] if not any(f"/{name}/" in str(plot) for name in stages)
    ]
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))


def build_project(root):
    """Run all stages on the chunk `wild` in a repository of its own, and commit."""
    carry(root)
    make_chunk(root / "data/chunks/wild", draw_people())
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["chunks"] = ["wild"]
    settings["raw"]["fakes_per_real"] = 2.0
    settings["raw"]["validation_ratio"] = settings["raw"]["test_ratio"] = 0.25
    settings["clips"].update(side_px=64, max_per_track=2)
    settings["model"]["weights"] = "none"
    settings["train"].update(epochs=2, milestone=1, batch_size=4)
    settings["evaluate"]["bootstrap_resamples"] = 50
    settings["robustness"]["degradations"] = {"half_size": [{"scale": 0.5, "crf": 32}]}
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"].pop("sample")  # this project has no sources
    graph["stages"]["train"]["deps"].remove("weights/x3d_xs.safetensors")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "repro", UNMASK_REGISTER="champion")
    commit(root, "Run every stage")


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


def commit(root, subject):
    """Commit all that Git does not ignore."""
    run(root, "git", "add", "--all")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run(root, "git", *author, "commit", "--quiet", "--message", subject)


def call(root, *command, **variables):
    """Return the ended run of a command of the project's own."""
    # The machine's own keys, endpoints and DVC settings stay out of it.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    nowhere = str(root / ".dvc/tmp/nowhere")
    kept |= {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
    kept |= {"AWS_EC2_METADATA_DISABLED": "true", "DVC_GLOBAL_CONFIG_DIR": nowhere}
    kept |= {"PYTHONPATH": str(root / "src")}
    for name in ("MLFLOW_TRACKING_URI", "UNMASK_TRACKER", "UNMASK_REGISTER"):
        kept.pop(name, None)
    return subprocess.run(
        command, cwd=root, env=kept | variables, capture_output=True, text=True, check=False
    )


def run(root, *command, **variables):
    """Return what a command that must succeed said."""
    done = call(root, *command, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(said):
    """Return the stages that `dvc repro` said it ran."""
    return set(re.findall(r"Running stage '([^']+)'", said))


def set_params(root, **values):
    """Change a project's params.yaml: section__key=value, or a whole section."""
    path = root / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for where, value in values.items():
        section, _, key = where.partition("__")
        if key:
            tree[section][key] = value
        else:
            tree[section] = value
    path.write_text(yaml.safe_dump(tree))


def predict(root, *clips):
    """Return the rows of `unmask predict --json`, whichever way they go."""
    done = call(root, sys.executable, "-m", "unmask", "predict", "--json", *clips)
    assert done.returncode in {0, 3, 4}, done.stdout + done.stderr  # real, fake, no clear answer
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask_mlflow(root, script, *arguments):
    """Return what the script leaves in `answer`, asked of the project's own MLflow store."""
    asked = (
        "import json, mlflow, pandas, sys\n"
        "mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
        f"{script}\n"
        "print('ANSWER', json.dumps(answer))"
    )
    said = run(root, sys.executable, "-c", asked, *arguments)
    line = next(line for line in said.splitlines() if line.startswith("ANSWER "))
    return json.loads(line.removeprefix("ANSWER "))
