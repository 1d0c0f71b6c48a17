"""Cropping jobs that could be started: what they need, and the requests for them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

from unmask.faces import shard_store, shards
from unmask.faces.crops import Job
from unmask.sagemaker import crop_contract, crop_jobs, inputs, submit
from unmask.sagemaker.checks import Account, check_bucket, check_image, check_quota, check_role
from unmask.sagemaker.config import CropConfig
from unmask.sagemaker.contract import FILES, REMOTE, JobError
from unmask.sagemaker.crop_contract import Video, Work
from unmask.sagemaker.crop_jobs import CropJob
from unmask.storage import blobs, dvc_files
from unmask.storage.blobs import Store, StoredFile
from unmask.storage.s3 import asking
from unmask.tracking import provenance

log = logging.getLogger(__name__)

_UPLOADS = 8  # at a time
_PROGRAM = ["python", "/opt/ml/code/crop.py"]
_ROOM = 1.2  # of a disk, beside the videos: their crops, and what is under way


@dataclass(frozen=True)
class Place:
    """Where jobs run, after the checks that cost nothing: their role, their bucket, their image."""

    account: Account
    job_config: CropConfig
    root: Path
    role: str
    bucket: str
    image: str

    @property
    def folder(self) -> str:
        """Return the folder of the bucket that works and results are in."""
        return f"{self.job_config.prefix}/crops"

    def asked(self, key: str) -> str:
        """Return the name of the object that holds the work with that key."""
        return f"{self.folder}/{key}/{crop_contract.ASKED}/{crop_contract.ASKED_NAME}"

    def results(self, key: str, number: int) -> shard_store.Results:
        """Return the results of a job, which has a folder of its own."""
        s3, kms_key = self.account.client("s3"), self.job_config.kms_key
        return shard_store.Results(s3, self.bucket, f"{self.folder}/{key}/{number}", kms_key)


def find_place(account: Account, job_config: CropConfig, root: Path) -> Place:
    """Return where jobs run. It changes nothing.

    Raises:
        UnmaskError: they can't run as asked; the message says why.
    """
    submit.refuse_changes(root, job_config)
    role = check_role(account, job_config.role)
    bucket = check_bucket(account, job_config.bucket)
    image = check_image(
        account, job_config.image, commit=provenance.image_commit(root),
        repository=job_config.repository,
    )  # fmt: skip
    return Place(account, job_config, root, role, bucket, image)


@dataclass(frozen=True)
class Submission:
    """A job that can be started once its videos are in the store."""

    place: Place
    work: Work
    unsent: list[StoredFile]
    texts: Mapping[str, str]  # names in the bucket, and what belongs there
    request: dict[str, Any]  # of CreateProcessingJob, or of CreateTrainingJob for spot

    @property
    def name(self) -> str:
        """Return the job's name."""
        found = self.request.get("ProcessingJobName") or self.request["TrainingJobName"]
        return str(found)

    def send_files(self) -> Iterator[StoredFile]:
        """Yield each video as it is in the store."""
        place = self.place
        own = inputs.own_store(place.bucket, place.job_config.prefix)
        with asking(f"to take a file into {own.uri}", "s3:PutObject"):
            yield from blobs.upload(
                place.account.client("s3"), own, self.unsent, place.root,
                workers=_UPLOADS, kms_key=place.job_config.kms_key,
            )  # fmt: skip

    def start(self) -> CropJob:
        """Start the job and return it; if somebody else has just started it, return theirs.

        Raises:
            UnmaskError: AWS does not take the request.
        """
        place = self.place
        s3, kms_key = place.account.client("s3"), place.job_config.kms_key
        with asking(f"to write into {place.bucket}", "s3:PutObject and s3:ListBucket"):
            for name, text in self.texts.items():
                inputs.put_text(s3, place.bucket, name, text, kms_key=kms_key)
        return crop_jobs.start(place.account, self.request)


def prepare(place: Place, jobs: Sequence[Job], stages: Mapping[Path, str]) -> Iterator[Submission]:
    """Yield jobs that crop these videos, at most instance_count. It changes nothing.

    Raises:
        UnmaskError: a job can't succeed; the message says why.
    """
    job_config = place.job_config
    files = dvc_files.files_at(place.root, [job.path for job in jobs], stages)
    own = inputs.own_store(place.bucket, job_config.prefix)
    asked = [files[job.path] for job in jobs]
    remote, held = submit.held_by_remote(place.account, job_config, place.root, asked)
    unsent = submit.find_unsent(place.account, own, [each for each in asked if each not in held])
    most = -(-len(jobs) // job_config.instance_count)
    parts = shards.cut(jobs, most)
    kind = "training" if job_config.spot else "processing"
    machines = job_config.model_copy(update={"instance_count": len(parts)})
    check_quota(place.account, machines, kind=kind)
    for part in parts:
        work = _work(part.jobs, files)
        size_gb, disk_gb = work.size_bytes / 1e9, job_config.volume_gb
        if size_gb * _ROOM > disk_gb:
            raise JobError(
                f"Asked for a job that crops {len(work.videos):,} videos of {size_gb:,.0f} GB on a "
                f"disk of {disk_gb} GB, which has no room for them and their crops. Give "
                f"--volume-gb {int(size_gb * _ROOM) + 1}, or more jobs by --instance-count."
            )
        yield _submission(place, work, own, remote, held, unsent)


def _work(jobs: Sequence[Job], files: Mapping[Path, StoredFile]) -> Work:
    videos = [
        Video(
            files[job.path], job.video_id, job.faces_dir.as_posix(), job.is_track,
            shard_store.name_of(job),
        )
        for job in jobs
    ]  # fmt: skip
    settings = jobs[0].settings
    return Work(shards.this_machine(settings), settings, tuple(videos))


def _submission(
    place: Place,
    work: Work,
    own: Store,
    remote: Store | None,
    held: set[StoredFile],
    unsent: list[StoredFile],
) -> Submission:
    wanted = [video.file for video in work.videos]
    theirs = [file for file in wanted if file in held]
    ours = [file for file in wanted if file not in held]
    texts = {place.asked(work.key): work.text}
    sources = {}
    for name, store, found in ((FILES, own, ours), (REMOTE, remote, theirs)):
        if store and found:
            text = inputs.manifest_text(store, found)
            named = inputs.text_name(f"{place.job_config.prefix}/lists", text, "manifest.json")
            texts[named] = text
            sources[name] = ("ManifestFile", f"s3://{place.bucket}/{named}")
    # A prefix, not the object's name: so it lies in the input's folder under its own.
    prefix = place.asked(work.key).removesuffix(crop_contract.ASKED_NAME)
    sources[crop_contract.ASKED] = ("S3Prefix", f"s3://{place.bucket}/{prefix}")
    before = crop_jobs.of_work(place.account, work.key)
    number = before[-1].number + 1 if before else 1
    contents = {file.md5 for file in ours}
    request = (spot_request if place.job_config.spot else processing_request)(
        place, work.key, number, sources
    )
    return Submission(
        place, work, [each for each in unsent if each.md5 in contents], texts, request
    )


# ---------------------------------------------------------------- requests


def _common(place: Place, key: str, number: int) -> tuple[str, str, list[dict[str, str]]]:
    """Return a job's name, the address of its results, and its tags."""
    name = crop_jobs.name_of(key, number, spot=place.job_config.spot)
    commit = provenance.source_tags(place.root).get("mlflow.source.git.commit") or "none"
    lock = md5((place.root / "dvc.lock").read_bytes(), usedforsecurity=False).hexdigest()
    own = {"unmask:key": key, "unmask:commit": commit, "unmask:dvc-lock": lock}
    tags = {**place.job_config.tags, **own}
    results = place.results(key, number)
    address = f"s3://{results.bucket}/{results.prefix}"
    return name, address, [{"Key": name, "Value": value} for name, value in tags.items()]


def processing_request(
    place: Place, key: str, number: int, sources: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Return the request for CreateProcessingJob.

    sources have each input's kind of address in S3, and the address.
    """
    job_config = place.job_config
    name, results, tags = _common(place, key, number)
    base = "/opt/ml"
    cluster: dict[str, Any] = {
        "InstanceCount": 1,
        "InstanceType": job_config.instance_type,
        "VolumeSizeInGB": job_config.volume_gb,
    }
    if job_config.volume_kms_key:
        cluster["VolumeKmsKeyId"] = job_config.volume_kms_key
    output = {
        "OutputName": "crops",
        "S3Output": {
            "S3Uri": results,
            "LocalPath": f"{base}/{crop_contract.PROCESSING_OUTPUT}",
            "S3UploadMode": "Continuous",
        },
    }
    outputs: dict[str, Any] = {"Outputs": [output]}
    if job_config.kms_key:
        outputs["KmsKeyId"] = job_config.kms_key
    request: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": place.role,
        "AppSpecification": {"ImageUri": place.image, "ContainerEntrypoint": _PROGRAM},
        "ProcessingInputs": [
            {
                "InputName": each,
                "S3Input": {
                    "S3Uri": address,
                    "LocalPath": f"{base}/{crop_contract.PROCESSING_INPUTS}/{each}",
                    "S3DataType": kind,
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                },
            }
            for each, (kind, address) in sources.items()
        ],
        "ProcessingOutputConfig": outputs,
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": {"MaxRuntimeInSeconds": job_config.max_run_s},
        "Environment": dict(job_config.environment),
        "Tags": tags,
    }
    if job_config.subnets:
        request["NetworkConfig"] = {"VpcConfig": _vpc(job_config)}
    return request


def spot_request(
    place: Place, key: str, number: int, sources: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Return the request for CreateTrainingJob: Processing jobs have no spare capacity.

    Its results are its checkpoints, which SageMaker keeps in S3 and lays down again where a job
    that was taken back goes on.
    """
    job_config = place.job_config
    name, results, tags = _common(place, key, number)
    resources: dict[str, Any] = {
        "InstanceCount": 1,
        "InstanceType": job_config.instance_type,
        "VolumeSizeInGB": job_config.volume_gb,
    }
    if job_config.volume_kms_key:
        resources["VolumeKmsKeyId"] = job_config.volume_kms_key
    output = {"S3OutputPath": f"s3://{place.bucket}/{job_config.prefix}/jobs"}
    if job_config.kms_key:
        output["KmsKeyId"] = job_config.kms_key
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": place.role,
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": _PROGRAM,
        },
        "InputDataConfig": [
            {
                "ChannelName": each,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": kind,
                        "S3Uri": address,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for each, (kind, address) in sources.items()
        ],
        "OutputDataConfig": output,
        "ResourceConfig": resources,
        "StoppingCondition": {
            "MaxRuntimeInSeconds": job_config.max_run_s,
            "MaxWaitTimeInSeconds": job_config.max_wait_s,
        },
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {"S3Uri": results, "LocalPath": "/opt/ml/checkpoints"},
        "Environment": dict(job_config.environment),
        "Tags": tags,
    }
    if job_config.subnets:
        request["VpcConfig"] = _vpc(job_config)
    return request


def _vpc(job_config: CropConfig) -> dict[str, list[str]]:
    return {
        "Subnets": list(job_config.subnets), "SecurityGroupIds": list(job_config.security_groups)
    }  # fmt: skip
