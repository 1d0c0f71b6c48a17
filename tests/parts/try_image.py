"""Build the image of jobs, train and crop in it, as SageMaker would: `make image-test`.

Needs podman, runc and debootstrap, all packages of Debian's, root, and the crops that `make repro`
made. Downloads gigabytes. The image stays, as unmask:test.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from hashlib import md5, sha256
from pathlib import Path

from training_job import files, key, lay_down

from unmask import params
from unmask.faces import shards
from unmask.faces.crops import find_missing, find_videos
from unmask.models import checkpoint
from unmask.sagemaker import contract, crop_contract
from unmask.sagemaker.crop_contract import Video, Work
from unmask.storage.blobs import StoredFile

ROOT = Path(__file__).parents[2]
NEEDED = ("podman", "runc", "debootstrap")
DEBIAN, BASE, IMAGE = "bookworm", "localhost/debian:bookworm-slim", "unmask:test"
# What an index of one's own is set by: pip's settings, not ours.
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout")
# Quick, and the shipped weights: not a useful model.
CLIPS, TRAIN = {"side_px": 64}, {"epochs": 2, "batch_size": 8, "milestone": 1}


def say(text: str) -> None:
    sys.stderr.write(f"image-test: {text}\n")


def podman(*arguments: str, check: bool = True) -> int:
    """Run podman; return its exit code."""
    command = ["podman", "--runtime", "runc", *arguments]
    return subprocess.run(command, cwd=ROOT, check=check).returncode


def make_base() -> None:
    """Make the base image from Debian's mirror: this test needs no registry."""
    if podman("image", "exists", BASE, check=False) == 0:
        say(f"{BASE} is there already")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["debootstrap", "--variant=minbase", DEBIAN, folder], check=True)
        tar = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["podman", "import", "-", BASE], stdin=tar.stdout, check=True)
        assert tar.wait() == 0


def pip_setting(name: str) -> str:
    """Return what pip would use on this machine; empty where it has nothing to say."""
    from_environment = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
    if from_environment:
        return from_environment
    asked = [sys.executable, "-m", "pip", "config", "get", f"global.{name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def build(file: str = "Dockerfile", tag: str = IMAGE) -> None:
    """Build an image of containers/, with this machine's index of packages as a secret."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"{name} = {pip_setting(name)}" for name in PIP_SETTINGS if pip_setting(name)]
        secrets = [f"--secret=id=pip.conf,src={folder}/pip.conf"]
        if certificate := pip_setting("cert"):
            settings.append("cert = /run/secrets/ca.crt")
            secrets.append(f"--secret=id=ca.crt,src={certificate}")
        (Path(folder) / "pip.conf").write_text("\n".join(["[global]", *settings]) + "\n")
        podman("build", "--format", "docker", "--network", "host", "--file", f"containers/{file}",
               "--tag", tag, "--build-arg", f"BASE_IMAGE={BASE}", *secrets, ".")  # fmt: skip


def options(base: Path) -> list[str]:
    """Return the options of podman's run that put a job's folders where SageMaker does."""
    # By itself podman asks for larger limits than some machines have.
    found = ["--ulimit=nofile=8192:8192", "--ulimit=nproc=8192:8192"]
    found += ["--network=host", "--shm-size=2g"]
    for name in ("input", "model", "output", "checkpoints"):
        (base / name).mkdir(parents=True, exist_ok=True)
        found.append(f"--volume={base / name}:/opt/ml/{name}")
    return found


def content(base: Path) -> dict[str, str]:
    """Return the SHA-256 of the model's files, which digests.json has too."""
    found = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in (base / "model").iterdir() if path.name != "digests.json"
    }  # fmt: skip
    assert json.loads((base / "model/digests.json").read_text()) == found
    return found


def train(base: Path) -> None:
    """Run a job to its end."""
    began = time.monotonic()
    code = podman("run", "--rm", *options(base), IMAGE, "train", check=False)
    assert code == 0, f"exit code {code}: see above"
    say(f"trained in {time.monotonic() - began:.0f} s")


def train_interrupted(base: Path) -> None:
    """Start a job, stop it after its first epoch as SageMaker would, and start it again."""
    name = f"unmask-image-test-{os.getpid()}"
    podman("run", "--detach", "--name", name, *options(base), IMAGE, "train")
    give_up = time.monotonic() + 600
    while not (base / "checkpoints/training/last.ckpt").exists():
        assert time.monotonic() < give_up
        assert podman("container", "exists", name, check=False) == 0
        time.sleep(0.05)
    began = time.monotonic()
    podman("stop", "--time", "120", name)
    say(f"stopped in {time.monotonic() - began:.1f} s")
    asked = ["podman", "inspect", "--format", "{{.State.ExitCode}}", name]
    code = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    podman("logs", name)
    podman("rm", name)
    assert code == "143", f"exit code {code}"
    assert not list((base / "model").iterdir())
    train(base)


def lay_down_videos(base: Path, count: int) -> Work:
    """Fill base with what SageMaker gives to a Processing job that crops some of the sample."""
    found = find_videos(Path("raw/sample/videos"))[:count]
    jobs = find_missing(found, Path("faces/none"), params.load().faces, workers=1)
    videos = []
    for job in jobs:
        content = job.path.read_bytes()
        file = StoredFile(job.path.as_posix(), md5(content).hexdigest(), len(content))
        stored = base / crop_contract.PROCESSING_INPUTS / contract.FILES / file.stored
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(content)
        videos.append(Video(file, job.video_id, "faces/sample", job.is_track, f"sample/{job.key}"))
    settings = jobs[0].settings
    work = Work(shards.this_machine(settings), settings, tuple(videos))
    asked = base / crop_contract.PROCESSING_INPUTS / crop_contract.ASKED / crop_contract.ASKED_NAME
    asked.parent.mkdir()
    asked.write_text(work.text)
    for name in (crop_contract.PROCESSING_OUTPUT, "output"):
        (base / name).mkdir(parents=True)
    return work


def check_crops(base: Path, work: Work) -> None:
    """Compare a job's crops with those that `make repro` made here."""
    output = base / crop_contract.PROCESSING_OUTPUT
    for video in work.videos:
        result = json.loads((output / f"{video.result}.json").read_text())
        assert result["digests"], video
        for name, digest in result["digests"].items():
            made = (output / video.result / name).read_bytes()
            here = (ROOT / video.chunk / name).read_bytes()
            assert digest == sha256(made).hexdigest() == sha256(here).hexdigest(), name


def crop(base: Path) -> None:
    """Run a Processing job to its end."""
    work = lay_down_videos(base, 4)
    folders = [f"--volume={base / name}:/opt/ml/{name}" for name in ("processing", "output")]
    limits = ["--ulimit=nofile=8192:8192", "--ulimit=nproc=8192:8192", "--network=host"]
    program = ["--entrypoint", "python", IMAGE, "/opt/ml/code/crop.py"]
    code = podman("run", "--rm", *limits, *folders, *program, check=False)
    assert code == 0, f"exit code {code}: see above"
    check_crops(base, work)


def can_build() -> bool:
    """Say whether this machine builds images; where it does not, say so loudly."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        say(f"SKIPPED, NOTHING WAS TESTED: needs root and {', '.join(NEEDED)}; "
            f"missing: {', '.join(missing) or 'root'}.")  # fmt: skip
        return False
    return True


def main() -> None:
    if not can_build():
        return
    os.chdir(ROOT)
    shipped = params.load()
    settings = shipped.model_copy(
        update={
            "clips": shipped.clips.model_copy(update=CLIPS),
            "train": shipped.train.model_copy(update=TRAIN),
        }
    )
    if not (ROOT / "faces/sample/index.jsonl").is_file():
        sys.exit("error: asked to train on the sample's crops; there are none. Run `make repro`.")
    began = time.monotonic()
    make_base()
    say(f"base: {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    build()
    say(f"image: {time.monotonic() - began:.0f} s")
    podman("images", IMAGE)
    wanted = contract.job_params(settings, key(ROOT, settings))
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        for base in (whole, parts):
            lay_down(base, ROOT, wanted, files(ROOT, settings))
        train(whole)
        _, carried = checkpoint.load(whole / "model")
        assert carried.run_key == wanted.key
        train_interrupted(parts)
        assert content(parts) == content(whole)
        crop(Path(folder) / "crops")
    say("passed: a model was trained, and the same one in two parts; videos were cropped")


if __name__ == "__main__":
    main()
