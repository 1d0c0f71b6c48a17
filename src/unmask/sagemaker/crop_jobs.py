"""Cropping jobs on SageMaker that are there: their state, their log, their end."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unmask.sagemaker import jobs
from unmask.sagemaker.checks import Account
from unmask.storage.s3 import asking, code_of

log = logging.getLogger(__name__)

_STEM, _SPOT_STEM = "unmask-crop-", "unmask-spotcrop-"  # of Processing jobs, of training jobs
_KEY_CHARS = 16
_NAME = re.compile(rf"({_STEM}|{_SPOT_STEM})([0-9a-f]{{{_KEY_CHARS}}})-([1-9]\d*)")
_RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True)
class CropJob:
    """A cropping job as SageMaker describes it."""

    name: str
    status: str  # InProgress, Stopping, Completed, Failed or Stopped
    message: str  # why it failed, or what it does

    @property
    def is_running(self) -> bool:
        """Say whether more results may come."""
        return self.status in _RUNNING

    @property
    def number(self) -> int:
        """Return which of the jobs of the same work it is: its results are in a folder of that."""
        return int(self.name.rpartition("-")[2])

    @property
    def log_group(self) -> str:
        """Return where CloudWatch has its log."""
        kind = "TrainingJobs" if self.name.startswith(_SPOT_STEM) else "ProcessingJobs"
        return f"/aws/sagemaker/{kind}"

    @property
    def line(self) -> str:
        """Return what it is about, in a line."""
        return f"{self.name}: {self.status}{f'; {self.message}' if self.message else ''}"

    @property
    def failure(self) -> str:
        """Return why it has no more results than there are; empty if it completed."""
        if self.status == "Completed":
            return ""
        return (
            f"{self.name} {self.status.lower()}: {self.message or 'no reason is given'}. Its log "
            f"is in CloudWatch, {self.log_group}, {self.name}/"
        )


def is_one(name: str) -> bool:
    """Say whether a job of that name crops."""
    return _NAME.fullmatch(name) is not None


def name_of(key: str, number: int, *, spot: bool) -> str:
    """Return the name of the job that is the so-manieth of the work with that key."""
    return f"{_SPOT_STEM if spot else _STEM}{key[:_KEY_CHARS]}-{number}"


def describe(account: Account, name: str) -> CropJob:
    """Return a job.

    Raises:
        StorageError: there is none of that name, or you may not look.
    """
    client = account.client("sagemaker")
    if name.startswith(_SPOT_STEM):
        with asking(f"for the job {name}", "sagemaker:DescribeTrainingJob"):
            found = client.describe_training_job(TrainingJobName=name)
        transitions = found.get("SecondaryStatusTransitions") or [{}]
        message = found.get("FailureReason") or transitions[-1].get("StatusMessage", "")
        return CropJob(name, found["TrainingJobStatus"], message)
    with asking(f"for the job {name}", "sagemaker:DescribeProcessingJob"):
        found = client.describe_processing_job(ProcessingJobName=name)
    # What the program said says more than its exit code, which is the reason then.
    message = found.get("ExitMessage") or found.get("FailureReason") or ""
    return CropJob(name, found["ProcessingJobStatus"], " ".join(message.split()))


def of_work(account: Account, key: str) -> list[CropJob]:
    """Return the jobs of the work with that key, the first one first."""
    client, names = account.client("sagemaker"), []
    stem = key[:_KEY_CHARS]
    for operation, field_name in (
        ("list_processing_jobs", "ProcessingJob"), ("list_training_jobs", "TrainingJob"),
    ):  # fmt: skip
        action = f"sagemaker:List{field_name}s"
        with asking("for the jobs there are", action):
            for page in client.get_paginator(operation).paginate(NameContains=stem):
                names += [row[f"{field_name}Name"] for row in page[f"{field_name}Summaries"]]
    ours = [match for name in names if (match := _NAME.fullmatch(name)) and match[2] == stem]
    return [describe(account, match[0]) for match in sorted(ours, key=lambda m: int(m[3]))]


def start(account: Account, request: dict[str, Any]) -> CropJob:
    """Start a job and return it; if somebody else has just started it, return theirs.

    Raises:
        StorageError: SageMaker does not take the request.
    """
    from botocore.exceptions import ClientError

    client = account.client("sagemaker")
    is_spot = "TrainingJobName" in request
    name = request["TrainingJobName" if is_spot else "ProcessingJobName"]
    create = client.create_training_job if is_spot else client.create_processing_job
    action = f"sagemaker:Create{'Training' if is_spot else 'Processing'}Job and iam:PassRole"
    with asking(f"for the job {name}", action):
        try:
            create(**request)
        except ClientError as error:
            if code_of(error) != "ResourceInUse":
                raise
    return describe(account, name)


def stop(account: Account, name: str) -> None:
    """Tell a job to stop; it gets two minutes for that."""
    client = account.client("sagemaker")
    if name.startswith(_SPOT_STEM):
        with asking(f"to stop {name}", "sagemaker:StopTrainingJob"):
            client.stop_training_job(TrainingJobName=name)
    else:
        with asking(f"to stop {name}", "sagemaker:StopProcessingJob"):
            client.stop_processing_job(ProcessingJobName=name)


@dataclass
class Watched:
    """A job that is followed: its log's lines go to ours, and each new state is a line."""

    account: Account
    job: CropJob
    _places: dict[str, str] = field(default_factory=dict)
    _said: str = ""

    def look(self) -> CropJob:
        """Return the job as it is now."""
        self.job = describe(self.account, self.job.name)
        for line in self._new_lines():
            log.info("%s: %s", self.job.name, line)
        if self.job.line != self._said:
            self._said = self.job.line
            log.info("%s", self._said)
        return self.job

    def _new_lines(self) -> Iterator[str]:
        logs = self.account.client("logs")
        yield from jobs.new_lines(logs, self.job.log_group, self.job.name, self._places)
