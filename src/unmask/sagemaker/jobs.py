"""Jobs on SageMaker that are there: which trains what, how far it is, and what it made."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED
from unmask.sagemaker import fetch as sagemaker_fetch
from unmask.sagemaker.checks import Account
from unmask.sagemaker.contract import JobError
from unmask.storage.s3 import asking, code_of

log = logging.getLogger(__name__)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_STEM = "unmask-"  # of all names
_TOLD = ""  # no stream's name: the user knows that there is no log
_RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True)
class Job:
    """A job as SageMaker describes it."""

    name: str
    key: str  # of the training
    status: str  # InProgress, Stopping, Completed, Failed or Stopped
    phase: str  # SecondaryStatus
    message: str  # why it failed, or what it does
    address: str  # of its model.tar.gz
    metrics: Mapping[str, float] = field(default_factory=dict)  # the last of each
    billable_s: int | None = None

    @property
    def line(self) -> str:
        """Return what it is about, in a line."""
        numbers = ", ".join(f"{name} {value:g}" for name, value in sorted(self.metrics.items()))
        words = [f"{self.name}: {self.status}, {self.phase}", numbers, self.message]
        if self.billable_s is not None:
            words.append(f"{self.billable_s} s billed")
        return "; ".join(filter(None, words))


def describe(account: Account, name: str) -> Job:
    """Return a job.

    Raises:
        JobError: there is none of that name, or it is none of ours.
    """
    with asking(f"for the job {name}", "sagemaker:DescribeTrainingJob"):
        found = account.client("sagemaker").describe_training_job(TrainingJobName=name)
    try:
        key = json.loads(found.get("HyperParameters", {})["key"])
    except MALFORMED as error:
        raise JobError(
            f"Asked for the job {name}; it is no training of unmask. Name one that begins with "
            f"{_STEM}."
        ) from error
    metrics = {row["MetricName"]: row["Value"] for row in found.get("FinalMetricDataList", [])}
    transitions = found.get("SecondaryStatusTransitions") or [{}]
    message = found.get("FailureReason") or transitions[-1].get("StatusMessage", "")
    return Job(
        name, key, found["TrainingJobStatus"], found.get("SecondaryStatus", ""), message,
        found.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
        metrics, found.get("BillableTimeInSeconds"),
    )  # fmt: skip


def next_name(key: str, before: Job | None) -> str:
    """Return the name of the key's first job, or of the one after the job before."""
    return f"{_STEM}{key[:12]}-{_number(before.name) + 1 if before else 1}"


def latest(account: Account, key: str) -> Job | None:
    """Return the last job of the training with that key, None where there was none yet."""
    stem = f"{_STEM}{key[:12]}-"
    with asking("for the jobs there are", "sagemaker:ListTrainingJobs"):
        pages = account.client("sagemaker").get_paginator("list_training_jobs")
        names = [
            row["TrainingJobName"]
            for page in pages.paginate(NameContains=stem)
            for row in page["TrainingJobSummaries"]
        ]
    ours = [name for name in names if re.fullmatch(rf"{stem}\d+", name)]
    for name in sorted(ours, key=_number, reverse=True):
        found = describe(account, name)
        if found.key == key:
            return found
    return None


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def standing(
    account: Account, key: str, *, poll_s: float, sleep: Callable[[float], Any]
) -> Job | None:
    """Return the key's last job if it is running or its model exists, so that none is run twice.

    One that is stopping is waited for: it may still write the checkpoint that the next begins with.
    """
    found = latest(account, key)
    if found and found.status == "Stopping":
        for later in follow(account, found.name, poll_s=poll_s, sleep=sleep):
            log.info("%s", later.line)
            found = later
    if found and found.status == "InProgress":
        return found
    if found and found.status == "Completed" and _is_there(account, found.address):
        return found
    return None


def _is_there(account: Account, address: str) -> bool:
    bucket, _, name = address.removeprefix("s3://").partition("/")
    from botocore.exceptions import ClientError

    with asking(f"for {address}", "s3:GetObject and s3:ListBucket"):
        try:
            account.client("s3").head_object(Bucket=bucket, Key=name)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            raise
    return True


# ---------------------------------------------------------------- its end


def follow(
    account: Account, name: str, *, poll_s: float, sleep: Callable[[float], Any]
) -> Iterator[Job]:
    """Yield the job whenever it looks different, and its log's lines to our own, until it ends."""
    logs, places = account.client("logs"), dict[str, str]()
    before = None
    while True:
        now = describe(account, name)
        for line in new_lines(logs, LOG_GROUP, name, places):
            log.info("%s", line)
        if now != before:
            yield now
        if now.status not in _RUNNING:
            return
        before = now
        sleep(poll_s)


def new_lines(logs: Any, group: str, name: str, places: dict[str, str]) -> Iterator[str]:
    """Yield what the job has written since; places, by stream, say how far that was read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")[
            "logStreams"
        ]
        for stream in (row["logStreamName"] for row in streams):
            while True:
                place = {"nextToken": places[stream]} if stream in places else {}
                answer = logs.get_log_events(
                    logGroupName=group, logStreamName=stream, startFromHead=True, **place
                )
                yield from (event["message"].rstrip() for event in answer["events"])
                ended = places.get(stream) == answer["nextForwardToken"]
                places[stream] = answer["nextForwardToken"]
                if ended:
                    break
    except (ClientError, BotoCoreError) as error:
        code = code_of(error) if isinstance(error, ClientError) else type(error).__name__
        if code != "ResourceNotFoundException" and _TOLD not in places:  # that is: no line yet
            log.warning("the job's log can't be read (%s)", code)
            places[_TOLD] = code


def await_end(
    account: Account,
    name: str,
    *,
    poll_s: float,
    sleep: Callable[[float], Any],
    ask_to_stop: Callable[[], bool],
) -> Job:
    """Return the job when it has completed. Ctrl-C asks whether it shall stop, or goes on alone.

    Raises:
        JobError: it failed, was stopped, or is not waited for any longer.
    """
    try:
        for found in follow(account, name, poll_s=poll_s, sleep=sleep):
            log.info("%s", found.line)
    except KeyboardInterrupt as interrupt:
        if ask_to_stop():
            stop(account, name)
            raise JobError(
                f"{name} was told to stop. Submit again, and it goes on from its last epoch."
            ) from interrupt
        raise JobError(
            f"{name} goes on, and is waited for no longer. The same command waits for it again; "
            f"`unmask sagemaker stop {name}` stops it."
        ) from interrupt
    return completed(found)


def completed(found: Job) -> Job:
    """Return the job if it has completed.

    Raises:
        JobError: it runs, failed or was stopped.
    """
    if found.status == "Completed":
        return found
    if found.status in _RUNNING:
        raise JobError(
            f"Asked for what {found.name} made; it is {found.status}, {found.phase}. Wait for it: "
            "`unmask sagemaker submit`, or look again later."
        )
    raise JobError(
        f"Asked for what {found.name} made; it {found.status.lower()} ({found.phase}): "
        f"{found.message or 'no reason is given'}. Its log is in CloudWatch, {LOG_GROUP}, "
        f"{found.name}/. Mend that and submit again: it goes on from its last whole epoch."
    )


def stop(account: Account, name: str) -> None:
    """Tell a job to stop; it gets two minutes for that."""
    with asking(f"to stop {name}", "sagemaker:StopTrainingJob"):
        account.client("sagemaker").stop_training_job(TrainingJobName=name)


def fetch(account: Account, found: Job, model_dir: Path) -> None:
    """Put the model of a completed job in the place of model_dir.

    Raises:
        JobError: it has not completed, or its model is not what it should be.
    """
    address = completed(found).address
    with asking(f"for {address}", "s3:GetObject"):
        sagemaker_fetch.fetch(account.client("s3"), address, model_dir, key=found.key)
