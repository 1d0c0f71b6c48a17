"""A training goes to SageMaker and its model comes back: against a server on this machine."""

import hashlib
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
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small_account import (
    BUCKET,
    NUMBER,
    REGION,
    ROLE,
    Service,
    act_for,
    head,
    make_checkout,
    make_model,
    pack,
    refuse,
    running_service,
    set_up,
)
from small_project import call, run
from waiting import wait_until

from unmask import params
from unmask.cli.main import main
from unmask.models import checkpoint
from unmask.sagemaker import contract
from unmask.sagemaker.checks import sign_in
from unmask.sagemaker.config import read_config
from unmask.sagemaker.submit import find_training, prepare, tracker_variables

pytestmark = pytest.mark.slow

IMAGE = f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com/unmask"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    make_checkout(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A checkout of the test's own."""
    return Path(shutil.copytree(made, tmp_path / "checkout", symlinks=True))


@pytest.fixture
def service(root: Path) -> Iterator[Service]:
    with running_service() as found:
        set_up(found, root)
        yield found


@pytest.fixture
def unmask(root: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command of `unmask sagemaker` in the checkout."""
    monkeypatch.chdir(root)
    act_for(service, monkeypatch)
    return lambda *arguments: CliRunner().invoke(
        main, ["sagemaker", *arguments], catch_exceptions=False
    )


def succeed(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def submit(unmask: Callable[..., Result], *arguments: str) -> str:
    return succeed(unmask("submit", "--no-wait", *arguments))


def key_of(service: Service) -> str:
    return str(json.loads(service.requests[-1]["HyperParameters"]["key"]))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# ---------------------------------------------------------------- what is sent


def test_the_request_is_what_was_asked_for(
    unmask: Callable[..., Result], service: Service, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    monkeypatch.setenv("UNMASK_SAGEMAKER_VOLUME_GB", "70")
    service.quotas["ml.g5.2xlarge for spot training job usage"] = 2
    job_config = ["--instance-type", "ml.g5.2xlarge", "--spot", "--max-run-s", "3600"]
    job_config += ["--max-wait-s", "7200", "--kms-key", "alias/jobs", "--subnet", "subnet-1"]
    job_config += ["--subnet", "subnet-2", "--security-group", "sg-1", "--tag", "team=faces"]
    job_config += ["--variable", "NCCL_DEBUG=INFO", "--prefix", "ann/unmask"]
    shown = json.loads(succeed(unmask("submit", "--dry-run", *job_config)))
    assert (service.requests, service.objects()) == ([], {})
    name = submit(unmask, *job_config)
    [request] = service.requests
    assert request == shown
    key = key_of(service)
    settings = params.load(root / "params.yaml")
    assert name == f"unmask-{key[:12]}-1"
    folder = f"s3://{BUCKET}/ann/unmask"
    channels = request.pop("InputDataConfig")
    assert request == {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": f"{IMAGE}:{head(root)}",
            "TrainingInputMode": "File",
            "MetricDefinitions": [
                {"Name": name, "Regex": regex} for name, regex in contract.METRICS.items()
            ],
        },
        "HyperParameters": contract.hyperparameters(contract.job_params(settings, key)),
        "RoleArn": ROLE,
        "OutputDataConfig": {
            "S3OutputPath": f"{folder}/jobs", "KmsKeyId": "alias/jobs", "CompressionType": "GZIP",
        },
        "ResourceConfig": {
            "InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 70,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {
            "S3Uri": f"{folder}/checkpoints/{key}", "LocalPath": "/opt/ml/checkpoints",
        },
        "VpcConfig": {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
        "Environment": {
            "NCCL_DEBUG": "INFO", "UNMASK_TRACKER": "mlflow",
            "MLFLOW_TRACKING_URI": "https://mlflow.example.org", "MLFLOW_EXPERIMENT_NAME": "faces",
        },
        "Tags": [
            {"Key": "team", "Value": "faces"},
            {"Key": "unmask:key", "Value": key},
            {"Key": "unmask:commit", "Value": head(root)},
            {"Key": "unmask:dvc-lock", "Value": md5((root / "dvc.lock").read_bytes())},
        ],
    }  # fmt: skip
    sources = {row["ChannelName"]: row["DataSource"]["S3DataSource"] for row in channels}
    kinds = {name: source["S3DataType"] for name, source in sources.items()}
    assert kinds == {contract.FILES: "ManifestFile", contract.LISTING: "S3Prefix"}
    assert {row["S3DataDistributionType"] for row in sources.values()} == {"FullyReplicated"}


def test_the_params_arrive_as_the_container_reads_them(
    unmask: Callable[..., Result], service: Service, root: Path
) -> None:
    submit(unmask)
    sent = service.requests[0]["HyperParameters"]
    assert sent["train.epochs"] == "8"
    settings = params.load(root / "params.yaml")
    assert contract.read_hyperparameters(sent) == contract.job_params(settings, key_of(service))


@pytest.mark.parametrize(
    "change",
    [
        {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"},
        {"MLFLOW_TRACKING_URI": "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/a"},
        {"MLFLOW_TRACKING_PASSWORD": "secret"},
        {"UNMASK_TRACKER": "wandb"},
    ],
)
def test_a_job_reports_only_where_it_is_let_in(change: dict[str, str]) -> None:
    variables = {"MLFLOW_TRACKING_URI": "https://mlflow.example.org"}
    assert tracker_variables(variables)["UNMASK_TRACKER"] == "mlflow"
    assert tracker_variables(variables | change) == {"UNMASK_TRACKER": "none"}


def read_channels(service: Service, folder: Path) -> Path:
    """Do what SageMaker does before the container starts; return the root it lays out."""
    channels = {
        row["ChannelName"]: row["DataSource"] for row in service.requests[-1]["InputDataConfig"]
    }
    s3 = service.client("s3")

    def read(address: str) -> bytes:
        bucket, _, name = address.removeprefix("s3://").partition("/")
        content: bytes = s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        return content

    for channel in set(channels) - {contract.LISTING}:
        first, *names = json.loads(read(channels[channel]["S3DataSource"]["S3Uri"]))
        assert len(names) == len(set(names))
        for name in names:
            path = folder / channel / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(first["prefix"] + name))
    listing = folder / contract.LISTING / contract.LISTING_NAME
    listing.parent.mkdir()
    address = channels[contract.LISTING]["S3DataSource"]["S3Uri"]
    assert address.endswith("/")
    listing.write_bytes(read(address + contract.LISTING_NAME))
    stores = [folder / name for name in (contract.FILES, contract.REMOTE)]
    contract.lay_out(contract.read_listing(listing), stores, folder / "root", workers=2)
    return folder / "root"


def contents(root: Path, *folders: str) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def test_the_files_arrive_whole_and_only_once(
    unmask: Callable[..., Result], service: Service, root: Path, tmp_path: Path
) -> None:
    (root / "faces/wild/real0_0.mp4").unlink()  # two files of one content
    shutil.copyfile(root / "faces/wild/real1_0.mp4", root / "faces/wild/real0_0.mp4")
    run(root, "dvc", "commit", "--force", "--quiet", "faces@wild")
    submit(unmask)
    wanted = contents(root, "raw", "faces", "weights")
    wanted.pop("raw/wild/videos/real0.mp4")
    assert contents(read_channels(service, tmp_path), "") == wanted
    stored = [name for name in service.objects() if "/files/md5/" in name]
    assert len(stored) == len(set(wanted.values())) == len(wanted) - 1


def last_changes(service: Service) -> dict[str, Any]:
    rows = service.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    return {row["Key"]: row["LastModified"] for row in rows}


def test_a_second_submission_sends_nothing_and_starts_nothing(
    unmask: Callable[..., Result], service: Service
) -> None:
    name = submit(unmask)
    service.end(name, "InProgress", "Downloading")
    before = last_changes(service)
    assert submit(unmask) == name
    service.end(name, "Failed", "Failed", "ClientError: no")
    assert submit(unmask) == name.replace("-1", "-2")
    assert last_changes(service) == before
    assert len(service.requests) == 2


@pytest.mark.usefixtures("unmask")
def test_two_who_submit_at_once_get_one_job(service: Service, root: Path) -> None:
    account = sign_in(REGION)
    training = find_training(root, params.load(root / "params.yaml"), weights_cache=root)
    job_config = read_config(service.variables, {})
    both = [prepare(account, training, job_config, variables={}) for _ in range(2)]
    assert [len(list(each.send_files())) for each in both] == [len(both[0].unsent)] * 2
    names = {each.start().name for each in both}
    assert names == {service.requests[0]["TrainingJobName"]}
    assert len(service.requests) == 1


def test_an_interrupted_upload_goes_on(
    unmask: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.cli import common
    from unmask.storage import blobs

    def breaks(items: Any, **_: object) -> Iterator[Any]:
        for count, item in enumerate(items):
            if count == 3:
                raise KeyboardInterrupt
            yield item

    with monkeypatch.context() as patched:
        patched.setattr(common, "progress", breaks)
        said = refuse(unmask("submit"))
    assert "no job was started" in said
    before = last_changes(service)
    assert len(before) >= 3
    assert service.requests == []
    sent = []
    send = blobs._send
    monkeypatch.setattr(
        blobs, "_send", lambda s3, store, file, *rest: (
            sent.append(store.object_name(file)), send(s3, store, file, *rest))
    )  # fmt: skip
    submit(unmask)
    assert not set(sent) & set(before)
    assert set(before) | set(sent) <= set(service.objects())


def test_what_a_dvc_remote_holds_is_read_where_it_is(
    unmask: Callable[..., Result], service: Service, root: Path, tmp_path: Path
) -> None:
    service.client("s3").create_bucket(
        Bucket="the-remote", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    run(root, "dvc", "remote", "add", "--default", "s3", "s3://the-remote/shared")
    run(root, "dvc", "push", "--quiet", "raw@wild", "faces@wild", **service.variables)
    submit(unmask)
    weights = md5((root / "weights/start.safetensors").read_bytes())
    stored = f"unmask/files/md5/{weights[:2]}/{weights[2:]}"
    # They are in Git here, so the remote lacks them.
    assert [name for name in service.objects() if "/files/md5/" in name] == [stored]
    kinds = [row["ChannelName"] for row in service.requests[-1]["InputDataConfig"]]
    assert kinds == [contract.FILES, contract.REMOTE, contract.LISTING]
    wanted = contents(root, "raw", "faces", "weights")
    wanted.pop("raw/wild/videos/real0.mp4")
    assert contents(read_channels(service, tmp_path), "") == wanted
    service.end(service.requests[-1]["TrainingJobName"], "Stopped", "Stopped")
    submit(unmask, "--no-use-dvc-remote")
    kinds = [row["ChannelName"] for row in service.requests[-1]["InputDataConfig"]]
    assert kinds == [contract.FILES, contract.LISTING]
    assert sum("/files/md5/" in name for name in service.objects()) > 1


# ---------------------------------------------------------------- what costs nothing yet


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bucket", "no-such-bucket"], "there is none of that name. Make it in eu-west-1"),
        (["--role", "unmask"], "which is no ARN"),
        (["--role", f"arn:aws:iam::{NUMBER}:role/nobody"], "there is no such role"),
        (["--role", "arn:aws:iam::999999999999:role/unmask"], "only in its own"),
        (["--image", f"{IMAGE}:v0"], "ECR has no such image. Build and push it: containers/build"),
        (["--image", f"{NUMBER}.dkr.ecr.us-east-1.amazonaws.com/unmask:v0"], "is in us-east-1"),
        (["--image", "unmask:latest"], "which is no image in ECR"),
        (["--region", "eu-central-1"], "the bucket the-jobs is in eu-west-1"),
        (["--spot"], "spot needs max_wait_s"),
        (["--instance-type", "ml.p4d.24xlarge"], "`ml.p4d.24xlarge for training job usage` is 0"),
        (["--tag", "aws:x=y"], "not begin with aws:"),
        (["--repository", "faces"], "/faces:"),
        (["--variable", "UNMASK_TRACKER=wandb"], "is set from the one of that name here"),
        (["--local"], "name it by --image"),
    ],
)  # fmt: skip
def test_what_can_not_work_is_refused_before_it_costs(
    arguments: list[str], words: str, unmask: Callable[..., Result], service: Service
) -> None:
    service.quotas["ml.p4d.24xlarge for training job usage"] = 0
    if "--region" in arguments:  # where the role is, and nothing else
        arguments = [*arguments, "--image", f"{IMAGE}:v0"]
    assert words in refuse(unmask("submit", *arguments))
    assert (service.requests, service.objects()) == ([], {})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("UNMASK_SAGEMAKER_BUCKET", "", "reads and writes a bucket of S3; found none"),
        ("UNMASK_SAGEMAKER_ROLE", "", "works as an IAM role; found none"),
        ("UNMASK_SAGEMAKER_ROEL", "x", "did you mean UNMASK_SAGEMAKER_ROLE?"),
        ("AWS_PROFILE", "nobody", "could not be found. Sign in"),
        ("MLFLOW_TRACKING_URI", "https://ann:secret@mlflow.example.org", "stay here"),
    ],
)
def test_a_setting_that_can_not_work_is_refused(
    variable: str, value: str, words: str,
    unmask: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    said = refuse(unmask("submit"))
    assert words in said
    assert "secret" not in said
    assert service.requests == []


def test_nobody_and_nowhere_are_refused(
    unmask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    with monkeypatch.context() as patched:
        patched.delenv("AWS_DEFAULT_REGION")
        assert "in a region of AWS; found none" in refuse(unmask("submit"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "found no credentials. Sign in" in refuse(unmask("submit"))


def test_a_quota_that_is_not_known_is_no_refusal(
    unmask: Callable[..., Result], service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.quotas.clear()
    submit(unmask)
    assert "not checked: whether you may start ml.g5.xlarge" in caplog.text


def test_code_that_is_in_no_commit_is_in_no_image(
    unmask: Callable[..., Result], service: Service, root: Path
) -> None:
    (root / "src/unmask/models/clips.py").write_text("# mine\n")
    assert "these files have changes that are in no commit" in refuse(unmask("submit"))
    assert service.requests == []


def test_crops_that_differ_from_dvc_lock_are_refused(
    unmask: Callable[..., Result], service: Service, root: Path
) -> None:
    (root / "faces/wild/new.mp4").write_bytes(b"x")
    assert "the files there differ. Run `dvc repro faces@wild`" in refuse(unmask("submit"))
    shutil.rmtree(root / "faces/wild")
    assert "dvc repro" in refuse(unmask("submit"))
    assert (service.requests, service.objects()) == ([], {})


# ---------------------------------------------------------------- waiting


def play(service: Service, act: Callable[[str], None]) -> threading.Thread:
    """Wait for a new job, then act as the service."""
    before = len(service.requests)

    def playing() -> None:
        wait_until(lambda: len(service.requests) > before)
        act(service.requests[-1]["TrainingJobName"])

    thread = threading.Thread(target=playing, daemon=True)
    thread.start()
    return thread


def test_a_failed_job_says_why(
    unmask: Callable[..., Result], service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    logs = service.client("logs")
    logs.create_log_group(logGroupName="/aws/sagemaker/TrainingJobs")

    def fail(name: str) -> None:
        stream = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": f"{name}/algo-1"}
        logs.create_log_stream(**stream)
        now_ms = int(time.time() * 1000)
        lines = [{"timestamp": now_ms, "message": f"epoch={n} val_loss=0.5"} for n in range(2)]
        logs.put_log_events(**stream, logEvents=lines)
        service.jobs[name].final_metric_data_list = [
            {"MetricName": "val_loss", "Value": 0.5, "Timestamp": 0}
        ]
        service.end(name, "InProgress", "Training")
        wait_until(lambda: "InProgress, Training; val_loss 0.5" in caplog.text)
        service.end(name, "Failed", "Failed", "AlgorithmError: the training diverged")

    playing = play(service, fail)
    said = refuse(unmask("submit"))
    playing.join()
    assert "failed (Failed): AlgorithmError: the training diverged. Its log is in" in said
    assert [m for m in caplog.messages if m.startswith("epoch=")] == [
        "epoch=0 val_loss=0.5", "epoch=1 val_loss=0.5",
    ]  # fmt: skip
    assert "InProgress, Training; val_loss 0.5" in caplog.text


def test_a_job_can_be_looked_at_and_stopped(
    unmask: Callable[..., Result], service: Service
) -> None:
    assert "there is none in eu-west-1" in refuse(unmask("status"))
    name = submit(unmask)
    assert succeed(unmask("status")).startswith(f"{name}: InProgress, Starting")
    assert "it is InProgress, Starting" in refuse(unmask("fetch"))
    assert succeed(unmask("stop", name)) == f"{name} was told to stop"
    assert succeed(unmask("status", name)).startswith(f"{name}: Stopping")
    timer = threading.Timer(1, service.end, (name, "Stopped", "Stopped"))
    timer.start()
    assert submit(unmask) == name.replace("-1", "-2")  # only after the first had ended
    timer.join()
    assert service.jobs[name].training_job_status == "Stopped"
    assert "it stopped (Stopped)" in refuse(unmask("fetch", name))
    assert "is no training of unmask" in refuse(foreign(unmask, service))


def foreign(unmask: Callable[..., Result], service: Service) -> Result:
    job_of_others = service.jobs[service.requests[-1]["TrainingJobName"]]
    job_of_others.hyper_parameters = {"epochs": "3"}
    return unmask("status", job_of_others.training_job_name)


@pytest.mark.parametrize(("answer", "status"), [("s\n", "Stopping"), ("l\n", "InProgress")])
def test_ctrl_c_asks_whether_the_job_shall_stop(
    answer: str, status: str, unmask: Callable[..., Result], service: Service, root: Path
) -> None:
    name = submit(unmask)
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    with subprocess.Popen(
        [sys.executable, "-m", "unmask", "sagemaker", "submit"], cwd=root, env=environment,
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        assert waiting.stderr
        for line in waiting.stderr:
            if f"{name}: InProgress" in line:
                break
        waiting.send_signal(signal.SIGINT)
        os.write(ours, answer.encode())
        said = waiting.stderr.read()
        assert waiting.wait(60) == 1
    os.close(ours)
    os.close(theirs)
    assert "[l]eave it running" in said
    assert ("told to stop" if status == "Stopping" else f"stop {name}` stops it") in said
    assert service.jobs[name].training_job_status == status
    assert len(service.requests) == 1


# ---------------------------------------------------------------- the model comes back


def test_a_fetched_model_takes_the_place_of_the_old(
    unmask: Callable[..., Result], service: Service, root: Path, tmp_path: Path
) -> None:
    name = submit(unmask)
    files = make_model(root, tmp_path / "trained", key_of(service))
    service.complete(name, pack(files, top="./"))
    assert submit(unmask) == name  # what is done is not done again
    (root / "model").mkdir()
    (root / "model/old").write_text("old")
    assert succeed(unmask("fetch")) == f"model is of {name}"
    assert contents(root, "model") == {
        f"model/{name}": content for name, content in files.items() if name != "digests.json"
    }
    assert not list(root.glob(".model*"))
    service.complete(name, pack(files | {checkpoint.CARD: b"another"}))
    assert "MODEL_CARD.md is not what the job wrote" in refuse(unmask("fetch"))
    assert (root / "model" / checkpoint.CARD).read_bytes() == files[checkpoint.CARD]
    address = service.jobs[name].model_artifacts["S3ModelArtifacts"]
    service.client("s3").delete_object(Bucket=BUCKET, Key=address.split("/", 3)[3])
    assert submit(unmask) == name.replace("-1", "-2")  # somebody cleared the bucket


def repro(root: Path, service: Service, *options: str) -> None:
    run(root, "dvc", "repro", *options, "train", **service.variables, UNMASK_TRAIN_ON="sagemaker")


def test_dvc_repro_trains_there_and_where_changes_nothing(
    service: Service, root: Path, tmp_path: Path, mlflow_tables: Path
) -> None:
    shutil.copy(mlflow_tables, root)
    files = {}

    def train(name: str) -> None:
        service.end(name, "InProgress", "Training")
        files.update(make_model(root, tmp_path / "trained", key_of(service)))
        service.complete(name, pack(files))

    playing = play(service, train)
    repro(root, service)
    playing.join()
    assert service.requests[-1]["Environment"] == {"UNMASK_TRACKER": "none"}  # its place is a file
    assert checkpoint.read_settings(root / "model").run_key == key_of(service)
    assert "up to date" in run(root, "dvc", "repro", "train")  # here too: where is no part of it
    lock = (root / "dvc.lock").read_bytes()
    shutil.rmtree(root / "model")
    shutil.rmtree(root / ".dvc/cache/runs")
    repro(root, service, "--force", "--single-item")
    assert len(service.requests) == 1  # it took what was there
    assert (root / "dvc.lock").read_bytes() == lock
    from unmask.tracking.mlflow_client import mlflow

    client = mlflow().MlflowClient(f"sqlite:///{root}/mlflow.db")
    number = client.get_experiment_by_name("unmask").experiment_id
    [reported] = client.search_runs([number])
    assert reported.data.metrics["val_auc"] == 0.75
    assert reported.data.tags["unmask.run"] == key_of(service)
    assert reported.data.params["train.epochs"] == "8"


def test_a_place_that_nobody_knows_is_refused(root: Path) -> None:
    done = call(root, "dvc", "repro", "train", UNMASK_TRAIN_ON="sagemaekr")
    assert "UNMASK_TRAIN_ON is 'sagemaekr'; known are here, sagemaker" in done.stderr
