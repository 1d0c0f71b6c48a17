"""An AWS account on loopback, and a checkout whose crops are painted: for the tests of jobs."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
import yaml
from click.testing import Result
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.moto_api._internal.models import moto_api_backend
from moto.sagemaker.models import sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.server import ThreadedMotoServer
from moto.servicequotas.responses import ServiceQuotasResponse
from small_project import carry, commit, run
from tests.models.test_train import make_chunk

from unmask import params
from unmask.models import backbones, checkpoint
from unmask.records import Fingerprint
from unmask.runtime.disk import content_digest
from unmask.runtime.record_files import faces_line, write_fingerprints, write_history, write_index
from unmask.scoring.verdicts import NOTHING_LEARNED

REGION, NUMBER, BUCKET = "eu-west-1", "123456789012", "the-jobs"
ROLE = f"arn:aws:iam::{NUMBER}:role/unmask"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "a-secret-of-this-test"}


class Service:
    """A moto server, with what it lacks: jobs that run, StopTrainingJob, SageMaker's quotas."""

    def __init__(self, endpoint: str) -> None:
        self.variables = KEYS | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "UNMASK_SAGEMAKER_ROLE": ROLE,
            "UNMASK_SAGEMAKER_BUCKET": BUCKET,
            "UNMASK_SAGEMAKER_POLL_S": "0.2",
        }
        self.requests: list[dict[str, Any]] = []  # of CreateTrainingJob, as they came in
        self.quotas = {"ml.g5.xlarge for training job usage": 1.0}
        self.cropping: list[dict[str, Any]] = []  # of CreateProcessingJob

    def client(self, name: str) -> Any:
        keys = {name.lower(): text for name, text in KEYS.items()}
        endpoint = self.variables["AWS_ENDPOINT_URL"]
        return boto3.client(name, endpoint_url=endpoint, region_name=REGION, **keys)

    @property
    def jobs(self) -> dict[str, Any]:
        found: dict[str, Any] = sagemaker_backends[NUMBER][REGION].training_jobs
        return found

    @property
    def processing_jobs(self) -> dict[str, Any]:
        found: dict[str, Any] = sagemaker_backends[NUMBER][REGION].processing_jobs
        return found

    def end_processing(self, name: str, status: str, *, said: str = "", reason: str = "") -> None:
        """Have a Processing job be in a state; said is what its program left in output/message."""
        job = self.processing_jobs[name]
        job.exit_message, job.failure_reason = said or None, reason or None
        job.processing_job_status = status

    def objects(self, bucket: str = BUCKET) -> dict[str, int]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def end(self, name: str, status: str, phase: str, reason: str | None = None) -> None:
        job = self.jobs[name]
        job.secondary_status, job.failure_reason = phase, reason
        job.training_job_status = status

    def complete(self, name: str, archive: bytes) -> None:
        """Do what the service does at a good end."""
        address = self.jobs[name].model_artifacts["S3ModelArtifacts"]
        bucket, _, key = address.removeprefix("s3://").partition("/")
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=archive)
        self.end(name, "Completed", "Completed")


@contextmanager
def running_service() -> Iterator[Service]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    service = Service(f"http://{host}:{port}")
    moto_api_backend.reset()  # an earlier server's: they live in this process
    create = SageMakerResponse.create_training_job

    def refuse_ended(name: str, status: str) -> None:
        if status not in ("InProgress", "Stopping"):
            raise JsonRESTError("ValidationException", f"{name} is in status {status}")

    def create_training_job(self: Any) -> ActionResult:
        request = json.loads(self.body)
        name = request["TrainingJobName"]
        if name in service.jobs:
            raise JsonRESTError("ResourceInUse", f"{name} is there")
        result: ActionResult = create(self)
        service.end(name, "InProgress", "Starting")
        service.jobs[name].final_metric_data_list = []
        service.requests.append(request)  # last: the tests' service waits for it
        return result

    def stop_training_job(self: Any) -> ActionResult:
        name = self._get_param("TrainingJobName")
        refuse_ended(name, service.jobs[name].training_job_status)
        service.end(name, "Stopping", "Stopping")
        return ActionResult({})

    process = SageMakerResponse.create_processing_job

    def create_processing_job(self: Any) -> ActionResult:
        request = json.loads(self.body)
        name = request["ProcessingJobName"]
        if name in service.processing_jobs:
            raise JsonRESTError("ResourceInUse", f"{name} is there")
        result: ActionResult = process(self)
        service.end_processing(name, "InProgress")
        service.cropping.append(request)  # last: the tests' service waits for it
        return result

    def stop_processing_job(self: Any) -> ActionResult:
        name = self._get_param("ProcessingJobName")
        refuse_ended(name, service.processing_jobs[name].processing_job_status)
        service.end_processing(name, "Stopping")
        return ActionResult({})

    def list_service_quotas(_: Any) -> str:
        rows = [{"QuotaName": name, "Value": value} for name, value in service.quotas.items()]
        return json.dumps({"Quotas": rows})

    with (
        patch.object(SageMakerResponse, "create_training_job", create_training_job),
        patch.object(SageMakerResponse, "stop_training_job", stop_training_job, create=True),
        patch.object(SageMakerResponse, "create_processing_job", create_processing_job),
        patch.object(SageMakerResponse, "stop_processing_job", stop_processing_job),
        patch.object(
            ServiceQuotasResponse, "list_service_quotas", list_service_quotas, create=True
        ),
    ):
        try:
            yield service
        finally:
            server.stop()


def set_up(service: Service, root: Path) -> None:
    """Make the bucket, the role and the image of the checkout's commit."""
    service.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    service.client("iam").create_role(RoleName="unmask", AssumeRolePolicyDocument="{}")
    ecr = service.client("ecr")
    ecr.create_repository(repositoryName="unmask")
    manifest = {"schemaVersion": 2, "config": {"digest": f"sha256:{'0' * 64}"}, "layers": []}
    ecr.put_image(
        repositoryName="unmask",
        imageManifest=json.dumps(manifest),
        imageManifestMediaType="application/vnd.docker.distribution.manifest.v2+json",
        imageTag=head(root),
    )


def head(root: Path) -> str:
    return run(root, "git", "rev-parse", "HEAD").strip()


# ---------------------------------------------------------------- the checkout


def make_checkout(root: Path) -> None:
    """Make a repository that has crops of the chunk `wild`, as dvc.lock says, and no model."""
    carry(root)
    (root / "faces").mkdir()
    chunk = make_chunk(root / "faces/wild")
    lines = [faces_line(found) for _, found in sorted(chunk.faces.items())]
    (root / "faces/wild/index.jsonl").write_text("\n".join(lines) + "\n")
    (root / "raw/wild/videos").mkdir(parents=True)
    (root / "raw/wild/videos/real0.mp4").write_bytes(b"not sent")
    write_index(root / "raw/wild/index.csv", chunk.records)
    prints = [
        Fingerprint(record.video_id, hashlib.sha256(record.video_id.encode()).hexdigest(), "", ())
        for record in chunk.records
    ]
    write_fingerprints(root / "raw/wild/fingerprints.csv", prints)
    (root / "weights").mkdir()
    (root / "weights/start.safetensors").write_bytes(b"the starting weights")
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["chunks"] = ["wild"]
    settings["clips"].update(side_px=64, max_per_track=1)
    weights = root / "weights/start.safetensors"
    settings["model"].update(
        weights="weights/start.safetensors", weights_sha256=content_digest(weights)
    )
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    stages = graph["stages"]
    for name in ("params", "sample", "evaluate", "robustness"):
        stages.pop(name)
    for name in ("raw", "faces"):  # their inputs are not here
        stages[name].update(cmd="true", deps=[], params=[])
    deps = stages["train"]["deps"]
    deps[deps.index("weights/x3d_xs.safetensors")] = "weights/start.safetensors"
    graph.pop("plots")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "commit", "--force", "--quiet", "raw@wild", "faces@wild")
    commit(root, "Crop faces")


def make_model(root: Path, folder: Path, key: str) -> dict[str, bytes]:
    """Return the files that a job of that key leaves in /opt/ml/model."""
    settings = params.load(root / "params.yaml")
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)  # as JSON can say it
    carried = checkpoint.Checkpoint(
        settings.faces, settings.clips, settings.model, 1.0, limits, key
    )
    checkpoint.save(folder, backbones.build("x3d_xs", dropout=0.5), carried)
    (folder / checkpoint.CARD).write_text("# A model\n")
    row = {"epoch": 0, "train_loss": 0.7, "val_loss": 0.6, "val_auc": 0.75, "lr_head": 2e-4}
    write_history(folder / checkpoint.HISTORY, [row])
    digests = {path.name: content_digest(path) for path in folder.iterdir()}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"digests.json": json.dumps(digests).encode()}


def pack(files: dict[str, bytes], *others: tarfile.TarInfo, top: str = "") -> bytes:
    """Return a model.tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return packed.getvalue()


def act_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the service's credentials, and no settings of AWS or trackers beside."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    for name, text in service.variables.items():
        monkeypatch.setenv(name, text)


def refuse(done: Result) -> str:
    """Return what a command said that must fail, in one line."""
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


def clean_environment() -> dict[str, str]:
    """Return the environment without what would say something about AWS, DVC or trackers."""
    out = ("AWS_", "UNMASK_", "MLFLOW_", "DVC_")
    return {name: text for name, text in os.environ.items() if not name.startswith(out)}
