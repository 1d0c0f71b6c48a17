"""Crops by jobs on SageMaker: against a server on this machine, whose jobs are processes."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import crop_job
import pytest
import yaml
from click.testing import CliRunner, Result
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.responses import SageMakerResponse
from shard_videos import ROOT, contents, make_project
from small_account import (
    BUCKET,
    NUMBER,
    REGION,
    ROLE,
    Service,
    act_for,
    clean_environment,
    head,
    refuse,
    running_service,
    set_up,
)
from small_project import run
from waiting import wait_until

from unmask.cli.main import main
from unmask.faces import shards
from unmask.sagemaker import crop_contract

pytestmark = pytest.mark.slow

IMAGE = f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com/unmask"
VIDEOS = ["v00", "v01", "v02", "v03", "crash"]
GRAPH = {
    "stages": {
        "raw": {
            "matrix": {"chunk": ["wild"]},
            "cmd": "true",
            "outs": [{"raw/${item.chunk}/videos": {"persist": True}}],
        }
    }
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose videos are those of dvc.lock."""
    root = make_project(tmp_path_factory.mktemp("made") / "root", VIDEOS)
    (root / ".dvc").mkdir()
    for name in (".dvc/config", ".gitignore", ".dvcignore"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "pyproject.toml").write_text("# of the image\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "commit", "--force", "--quiet", "raw@wild")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "Draw")
    return root


@pytest.fixture(scope="module")
def here(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The crops that this machine alone makes of the same videos."""
    root = tmp_path_factory.mktemp("here") / "root"
    shutil.copytree(made, root, symlinks=True)
    command = [sys.executable, str(ROOT / "tests/parts/crop_command.py"), "crop"]
    subprocess.run(command, cwd=root, env=job_environment(), check=True, capture_output=True)
    return contents(root / "faces/wild")


def job_environment() -> dict[str, str]:
    parts = os.pathsep.join([str(ROOT / "tests/parts"), str(ROOT)])
    return clean_environment() | {"PYTHONPATH": parts}


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "checkout", symlinks=True))


@pytest.fixture
def service(root: Path) -> Iterator[Service]:
    with running_service() as found:
        set_up(found, root)
        found.quotas["ml.c7i.4xlarge for processing job usage"] = 2
        found.quotas["ml.c7i.4xlarge for spot training job usage"] = 2
        yield found


@pytest.fixture
def crop(root: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `unmask crop --on sagemaker` in the checkout."""
    monkeypatch.chdir(root)
    monkeypatch.setattr("unmask.cli.common.workers", lambda: 1)
    act_for(service, monkeypatch)
    return lambda *words: CliRunner().invoke(
        main, ["crop", "--on", "sagemaker", *words], catch_exceptions=False
    )


def do_job(service: Service, request: dict[str, Any], base: Path, **environment: str) -> int:
    """Run a job as the service would; return the exit code of its program."""
    base.mkdir()
    s3 = service.client("s3")
    out = crop_job.lay_down(request, base, s3)
    process = crop_job.start(base, **environment)
    try:
        code = process.wait(120)
    finally:
        process.kill()
    crop_job.upload(request, out, s3)
    return code


@pytest.fixture
def serving(service: Service, tmp_path: Path) -> Iterator[Callable[[Callable[..., None]], None]]:
    """Return what has a function play the service for jobs that start from now on."""
    threads = []

    def serve(act: Callable[..., None], count: int = 1) -> None:
        before = len(service.cropping)

        def play() -> None:
            for number in range(before, before + count):
                wait_until(lambda number=number: len(service.cropping) > number, 120)
                act(service.cropping[number], tmp_path / f"job{number}")

        threads.append(threading.Thread(target=play, daemon=True))
        threads[-1].start()

    yield serve
    for thread in threads:
        thread.join(120)


def completes(service: Service) -> Callable[[dict[str, Any], Path], None]:
    def act(request: dict[str, Any], base: Path) -> None:
        code = do_job(service, request, base)
        assert code == 0, crop_job.said(base)
        service.end_processing(request["ProcessingJobName"], "Completed")

    return act


# ---------------------------------------------------------------- what is sent


def test_the_request_is_what_was_asked_for(
    crop: Callable[..., Result], service: Service, root: Path
) -> None:
    options = ["--prefix", "ann/unmask", "--kms-key", "alias/jobs", "--volume-kms-key", "alias/d"]
    options += ["--subnet", "subnet-1", "--security-group", "sg-1", "--tag", "team=faces"]
    options += ["--variable", "OPENCV_LOG_LEVEL=ERROR", "--volume-gb", "70", "--max-run-s", "3600"]
    options += ["--instance-type", "ml.c5.2xlarge"]
    service.quotas["ml.c5.2xlarge for processing job usage"] = 1
    shown = crop("--dry-run", *options)
    assert shown.exit_code == 0, shown.output
    assert (service.cropping, service.objects()) == ([], {})
    size = sum(path.stat().st_size for path in (root / "raw/wild/videos").iterdir())
    assert (
        f"would crop 6 videos, {size / 1e9:.3f} GB, on ml.c5.2xlarge: about 0.00 " in shown.output
    )
    assert "6 files" in shown.output
    service_thread = threading.Thread(target=lambda: fail_at_once(service), daemon=True)
    service_thread.start()
    assert "failed: no. Its log is in CloudWatch" in refuse(crop(*options))
    service_thread.join()
    [request] = service.cropping
    name = request["ProcessingJobName"]
    assert name in shown.output
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    key = tags["unmask:key"]
    assert name == f"unmask-crop-{key[:16]}-1"
    folder = f"s3://{BUCKET}/ann/unmask"
    inputs = {each.pop("InputName"): each["S3Input"] for each in request.pop("ProcessingInputs")}
    assert request == {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": f"{IMAGE}:{head(root)}",
            "ContainerEntrypoint": ["python", "/opt/ml/code/crop.py"],
        },
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "crops",
                    "S3Output": {
                        "S3Uri": f"{folder}/crops/{key}/1",
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "Continuous",
                    },
                }
            ],
            "KmsKeyId": "alias/jobs",
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1, "InstanceType": "ml.c5.2xlarge", "VolumeSizeInGB": 70,
                "VolumeKmsKeyId": "alias/d",
            },
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "Environment": {"OPENCV_LOG_LEVEL": "ERROR"},
        "NetworkConfig": {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
        "Tags": [
            {"Key": "team", "Value": "faces"},
            {"Key": "unmask:key", "Value": key},
            {"Key": "unmask:commit", "Value": head(root)},
            {"Key": "unmask:dvc-lock", "Value": md5((root / "dvc.lock").read_bytes()).hexdigest()},
        ],
    }  # fmt: skip
    asked, files = inputs["asked"], inputs["files"]
    assert set(inputs) == {"asked", "files"}
    assert asked == {
        "S3Uri": f"{folder}/crops/{key}/asked/",
        "LocalPath": "/opt/ml/processing/input/asked",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
    }
    assert files["S3DataType"] == "ManifestFile"
    assert files["LocalPath"] == "/opt/ml/processing/input/files"
    s3 = service.client("s3")
    manifest = json.loads(crop_job.read(s3, files["S3Uri"]))
    digests = [md5(path.read_bytes()).hexdigest() for path in (root / "raw/wild/videos").iterdir()]
    assert manifest == [
        {"prefix": f"{folder}/files/md5/"},
        *sorted(f"{digest[:2]}/{digest[2:]}" for digest in digests),
    ]
    work = crop_contract.read_work(crop_job.read(s3, asked["S3Uri"] + "asked.json"), "asked")
    assert work.key == key
    assert work.facts == shards.this_machine(work.settings)
    assert {video.file.path for video in work.videos} == {
        f"raw/wild/videos/{name}.mp4" for name in [*VIDEOS, "text"]
    }


def fail_at_once(service: Service) -> None:
    wait_until(lambda: service.cropping)
    service.end_processing(service.cropping[0]["ProcessingJobName"], "Failed", reason="no")


def test_what_a_dvc_remote_holds_is_read_where_it_is(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str], serving: Any
) -> None:
    service.client("s3").create_bucket(
        Bucket="the-remote", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    run(root, "dvc", "remote", "add", "--default", "s3", "s3://the-remote/shared")
    run(root, "dvc", "push", "--quiet", "raw@wild", **service.variables)
    serving(completes(service))
    done = crop()
    assert done.exit_code == 0, done.output
    assert not [name for name in service.objects() if "/files/md5/" in name]
    [request] = service.cropping
    assert {each["InputName"] for each in request["ProcessingInputs"]} == {"remote", "asked"}
    assert contents(root / "faces/wild") == here


# ---------------------------------------------------------------- to the end


def test_jobs_make_the_crops_of_one_machine_and_nothing_is_done_twice(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str],
    serving: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    serving(completes(service), count=2)
    done = crop("--instance-count", "2")
    assert done.exit_code == 0, done.output
    assert contents(root / "faces/wild") == here
    assert "chunk wild: 6 videos, 4 with a face, 2 without (1 crashed, 1 not_a_" in caplog.text
    assert len(service.cropping) == 2
    assert not (root / ".crop_shards").exists()
    # All but the clip that crashed, which may have had bad luck, is there. It is asked for again.
    shutil.rmtree(root / "faces")
    serving(completes(service))
    again = crop()
    assert again.exit_code == 0, again.output
    assert len(service.cropping) == 3
    s3 = service.client("s3")
    [asked] = [
        each["S3Input"]["S3Uri"] for each in service.cropping[2]["ProcessingInputs"]
        if each["InputName"] == "asked"
    ]  # fmt: skip
    work = crop_contract.read_work(crop_job.read(s3, asked + "asked.json"), "asked")
    assert [video.video_id for video in work.videos] == ["crash"]
    assert contents(root / "faces/wild") == here


def test_a_job_that_runs_is_waited_for_by_the_next_command(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str],
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The first driver is killed. By the second, the job has ended; it crops nothing again."""
    environment = job_environment() | service.variables
    words = [sys.executable, "-m", "unmask", "crop", "--on", "sagemaker"]
    first = subprocess.Popen(words, cwd=root, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: service.cropping, 120)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    [request] = service.cropping
    thread = threading.Thread(
        target=lambda: completes(service)(request, tmp_path / "job"), daemon=True
    )
    thread.start()
    done = crop()
    thread.join()
    assert done.exit_code == 0, done.output
    assert "is asked for some of these videos: no second job" in caplog.text
    assert len(service.cropping) == 1
    assert contents(root / "faces/wild") == here


def test_what_a_stopped_job_had_finished_is_kept_by_the_next(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str], serving: Any
) -> None:
    def is_stopped(request: dict[str, Any], base: Path) -> None:
        base.mkdir()
        s3 = service.client("s3")
        out = crop_job.lay_down(request, base, s3)
        process = crop_job.start(base, SECONDS_A_SEARCH="0.3")
        wait_until(
            lambda: sum(p.with_suffix("").is_dir() for p in out.glob("wild/*.json")) > 1, 120
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143, crop_job.said(base)
        assert "SIGTERM came: the job ends" in crop_job.said(base)
        crop_job.upload(request, out, s3)
        done.extend(path.stem for path in out.glob("wild/*.json"))
        service.end_processing(request["ProcessingJobName"], "Stopped")

    done: list[str] = []
    serving(is_stopped)
    said = refuse(crop())
    assert (
        "stopped: no reason is given. Its log is in CloudWatch, /aws/sagemaker/Processing" in said
    )
    assert "type the same again: what is done is kept" in said
    kept = {path: path.stat().st_mtime_ns for path in root.glob("faces/wild/*.mp4")}
    assert kept
    serving(completes(service))
    finished = crop()
    assert finished.exit_code == 0, finished.output
    s3 = service.client("s3")
    [asked] = [
        each["S3Input"]["S3Uri"] for each in service.cropping[1]["ProcessingInputs"]
        if each["InputName"] == "asked"
    ]  # fmt: skip
    work = crop_contract.read_work(crop_job.read(s3, asked + "asked.json"), "asked")
    assert not {video.result.partition("/")[2] for video in work.videos} & set(done)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert contents(root / "faces/wild") == here


def test_half_an_output_is_named_and_cropped_again(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str],
    serving: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def loses_a_crop(request: dict[str, Any], base: Path) -> None:
        base.mkdir()
        out = crop_job.lay_down(request, base, service.client("s3"))
        assert crop_job.start(base).wait(120) == 0, crop_job.said(base)
        [lost] = out.rglob("v01_0.mp4")
        lost.write_bytes(b"another")
        crop_job.upload(request, out, service.client("s3"))
        service.end_processing(request["ProcessingJobName"], "Completed")

    serving(loses_a_crop)
    said = refuse(crop())
    assert "(raw/wild/videos/v01.mp4 ...); the jobs completed without them, or left half" in said
    assert "its crop v01_0.mp4 is another. It is cropped again" in caplog.text
    assert not (root / "faces/wild/v01_0.mp4").exists()
    serving(completes(service))
    done = crop()
    assert done.exit_code == 0, done.output
    assert contents(root / "faces/wild") == here


# ---------------------------------------------------------------- what goes wrong


def test_a_job_that_crops_by_other_code_ends_at_once_and_says_so(
    crop: Callable[..., Result], service: Service, root: Path, tmp_path: Path, serving: Any
) -> None:
    old = tmp_path / "old"
    shutil.copytree(ROOT / "src/unmask", old / "unmask")
    with (old / "unmask/faces/tracks.py").open("a") as source:
        source.write("# as it was\n")

    def has_an_old_image(request: dict[str, Any], base: Path) -> None:
        parts = os.pathsep.join([str(old), str(ROOT / "tests/parts"), str(ROOT)])
        assert do_job(service, request, base, PYTHONPATH=parts) == 1
        said = crop_job.message(base)
        service.end_processing(
            request["ProcessingJobName"], "Failed", said=said,
            reason="AlgorithmError: , exit code: 1",
        )  # fmt: skip

    serving(has_an_old_image)
    said = refuse(crop())
    assert (
        "failed: Asked for the crops that the asking machine makes; this one has the code" in said
    )
    assert "crops would differ. Build the image from the commit that asks" in said
    assert not list(root.glob("faces/wild/*.mp4"))
    serving(completes(service))
    done = crop()  # the image was built anew: the same work, another job with a folder of its own
    assert done.exit_code == 0, done.output
    first, second = service.cropping
    assert second["ProcessingJobName"] == first["ProcessingJobName"].replace("-1", "-2")
    addresses = [crop_job.address_of_results(each) for each in (first, second)]
    assert addresses[1] == addresses[0].removesuffix("/1") + "/2"


def test_a_refusal_of_the_service_is_one_line(
    crop: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code, words in (
        ("AccessDeniedException", "Have sagemaker:CreateProcessingJob and iam:PassRole allowed"),
        ("ResourceLimitExceeded", "it answered ResourceLimitExceeded: no. Correct what it names"),
    ):

        def refuse_it(_: Any, code: str = code) -> None:
            raise JsonRESTError(code, "no")

        monkeypatch.setattr(SageMakerResponse, "create_processing_job", refuse_it)
        assert words in refuse(crop())
    assert service.cropping == []


def test_a_blob_that_has_changed_is_named(
    crop: Callable[..., Result], service: Service, root: Path, serving: Any
) -> None:
    def has_other_bytes(request: dict[str, Any], base: Path) -> None:
        digest = md5((root / "raw/wild/videos/v02.mp4").read_bytes()).hexdigest()
        stored = f"unmask/files/md5/{digest[:2]}/{digest[2:]}"
        service.client("s3").put_object(Bucket=BUCKET, Key=stored, Body=b"another")
        assert do_job(service, request, base) == 1
        said = crop_job.message(base)
        service.end_processing(request["ProcessingJobName"], "Failed", said=said, reason="exit 1")

    serving(has_other_bytes)
    said = refuse(crop())
    assert "failed: raw/wild/videos/v02.mp4: asked for content of MD5 " in said
    assert "Delete the object that ends in" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bucket", "no-such-bucket"], "there is none of that name. Make it in eu-west-1"),
        (["--role", f"arn:aws:iam::{NUMBER}:role/nobody"], "there is no such role"),
        (["--image", f"{IMAGE}:v0"], "ECR has no such image. Build and push it: containers/build"),
        (["--instance-count", "3"], "quota `ml.c7i.4xlarge for processing job usage` is 2"),
        (["--region", "us-east-1", "--image", f"{IMAGE}:v0"], "bucket the-jobs is in eu-west-1"),
        (["--max-run-s", "800000"], "a Processing job has at most 777600"),
        (["--spot"], "spot needs max_wait_s"),
        (["--variable", "HF_TOKEN=x"], "HF_TOKEN looks like a secret"),
    ],
)
def test_what_can_not_work_is_refused_before_it_costs(
    crop: Callable[..., Result], service: Service, words: list[str], said: str
) -> None:
    assert said in refuse(crop(*words))
    assert (service.cropping, service.requests, service.objects()) == ([], [], {})


def test_videos_that_are_not_those_of_dvc_lock_are_refused(
    crop: Callable[..., Result], service: Service, root: Path
) -> None:
    (root / "raw/wild/videos/new.mp4").write_bytes(b"x")
    assert "the files there differ. Run `dvc repro raw@wild` first" in refuse(crop())
    (root / "dvc.lock").unlink()
    assert "dvc.lock has it; it has none. Run `dvc repro raw@wild` first" in refuse(crop())
    assert (service.cropping, service.objects()) == ([], {})


def test_a_disk_that_is_too_small_is_refused(
    crop: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.sagemaker.crop_request._ROOM", 1e6)
    assert "GB, which has no room for them and their crops. Give --volume-gb" in refuse(
        crop("--volume-gb", "1")
    )
    assert service.cropping == []


def test_code_that_is_in_no_commit_is_in_no_image(
    crop: Callable[..., Result], service: Service, root: Path
) -> None:
    (root / "pyproject.toml").write_text("# changed\n")
    assert "these files have changes that are in no commit" in refuse(crop())
    assert service.cropping == []


def test_options_of_jobs_are_no_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    done = CliRunner().invoke(main, ["crop", "--instance-type", "ml.c5.xlarge"])
    assert "--instance-type is for jobs on SageMaker: add --on sagemaker." in refuse(done)


@pytest.mark.usefixtures("crop")
@pytest.mark.parametrize(("answer", "status"), [("s\n", "Stopping"), ("l\n", "InProgress")])
def test_ctrl_c_asks_whether_the_jobs_shall_stop(
    answer: str, status: str, service: Service, root: Path
) -> None:
    ours, theirs = pty.openpty()
    environment = job_environment() | service.variables
    words = [sys.executable, "-m", "unmask", "crop", "--on", "sagemaker"]
    with subprocess.Popen(
        words, cwd=root, env=environment, stdin=theirs, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr
        line = ""
        while ": InProgress" not in line:
            line = waiting.stderr.readline()
            assert line, "it ended"
        waiting.send_signal(signal.SIGINT)
        os.write(ours, answer.encode())
        said = waiting.stderr.read()
        assert waiting.wait(60) == 1
    os.close(ours)
    os.close(theirs)
    [request] = service.cropping
    name = request["ProcessingJobName"]
    assert f"Running: {name}\n" in said
    assert "[l]eave it running" in said
    assert ("told to stop" if status == "Stopping" else f"sagemaker stop {name}` stops") in said
    assert service.processing_jobs[name].processing_job_status == status
    shown = CliRunner().invoke(main, ["sagemaker", "status", name])
    assert shown.stdout.strip() == f"{name}: {status}"
    stopped = CliRunner().invoke(main, ["sagemaker", "stop", name])
    assert stopped.stdout.strip() == f"{name} was told to stop"
    assert service.processing_jobs[name].processing_job_status == "Stopping"


def test_a_job_s_log_is_shown_while_it_runs(
    crop: Callable[..., Result], service: Service, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logs = service.client("logs")
    group = "/aws/sagemaker/ProcessingJobs"
    logs.create_log_group(logGroupName=group)

    def writes(request: dict[str, Any], _: Path) -> None:
        name = request["ProcessingJobName"]
        stream = {"logGroupName": group, "logStreamName": f"{name}/algo-1-1"}
        logs.create_log_stream(**stream)
        now_ms = int(time.time() * 1000)
        lines = [{"timestamp": now_ms, "message": "50 of 60 videos cropped"}]
        logs.put_log_events(**stream, logEvents=lines)
        wait_until(lambda: f"{name}: 50 of 60 videos cropped" in caplog.text)
        service.end_processing(name, "Failed", reason="InternalServerError")

    serving(writes)
    assert "failed: InternalServerError. Its log is in CloudWatch" in refuse(crop())


# ---------------------------------------------------------------- spare capacity


def test_spare_capacity_is_a_training_job_that_goes_on_from_its_checkpoints(
    crop: Callable[..., Result], service: Service, root: Path, here: dict[str, str], tmp_path: Path
) -> None:
    def is_taken_back_and_goes_on() -> None:
        wait_until(lambda: service.requests, 120)
        request = service.requests[0]
        s3 = service.client("s3")
        for number, environment in enumerate(({"SECONDS_A_SEARCH": "0.3"}, {})):
            base = tmp_path / f"instance{number}"
            base.mkdir()
            out = crop_job.lay_down(request, base, s3)
            before.append({path.name for path in out.glob("wild/*.json")})
            process = crop_job.start(base, **environment)
            if not number:
                wait_until(lambda out=out: list(out.glob("wild/*.json")), 120)
                process.send_signal(signal.SIGTERM)
            codes.append(process.wait(120))
            crop_job.upload(request, out, s3)
            said.append(crop_job.said(base))
        service.end(request["TrainingJobName"], "Completed", "Completed")

    before: list[set[str]] = []
    codes: list[int] = []
    said: list[str] = []
    thread = threading.Thread(target=is_taken_back_and_goes_on, daemon=True)
    thread.start()
    done = crop("--spot", "--max-run-s", "3600", "--max-wait-s", "7200")
    thread.join()
    assert done.exit_code == 0, done.output
    assert codes == [143, 0], said
    assert not before[0]
    assert before[1]
    assert f", {len(before[1])} done before" in said[1] or "passing" in str(before[1])
    assert contents(root / "faces/wild") == here
    [request] = service.requests
    tags = {tag["Key"]: tag["Value"] for tag in request.pop("Tags")}
    key = tags["unmask:key"]
    channels = {row["ChannelName"] for row in request.pop("InputDataConfig")}
    assert channels == {"files", "asked"}
    assert request == {
        "TrainingJobName": f"unmask-spotcrop-{key[:16]}-1",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": f"{IMAGE}:{head(root)}",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", "/opt/ml/code/crop.py"],
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/unmask/jobs"},
        "ResourceConfig": {
            "InstanceCount": 1, "InstanceType": "ml.c7i.4xlarge", "VolumeSizeInGB": 200,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {
            "S3Uri": f"s3://{BUCKET}/unmask/crops/{key}/1", "LocalPath": "/opt/ml/checkpoints",
        },
        "Environment": {},
    }  # fmt: skip
