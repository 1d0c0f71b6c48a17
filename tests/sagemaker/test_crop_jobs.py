"""Cropping jobs that are there: stopped, and found, against a server on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.responses import SageMakerResponse
from small_account import (
    BUCKET,
    NUMBER,
    REGION,
    ROLE,
    Service,
    act_for,
    refuse,
    running_service,
)

from unmask.cli.main import main
from unmask.sagemaker import crop_jobs
from unmask.sagemaker.checks import Account
from unmask.sagemaker.config import CropConfig
from unmask.sagemaker.crop import Crops
from unmask.sagemaker.crop_request import Place

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef" * 4


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with running_service() as found:
        act_for(found, monkeypatch)
        yield found


@pytest.fixture
def crops(service: Service, tmp_path: Path) -> Crops:
    """Three jobs that were started, and run."""
    account = Account(boto3.Session(region_name=REGION), REGION, NUMBER)
    place = Place(account, CropConfig(), tmp_path, ROLE, BUCKET, "no image")
    found = Crops(place, sleep=lambda _: None)
    for number in (1, 2, 3):
        request = {
            "ProcessingJobName": crop_jobs.name_of(KEY, number, spot=False),
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "no image"},
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1, "InstanceType": "ml.c7i.4xlarge", "VolumeSizeInGB": 1,
                }
            },
        }  # fmt: skip
        found.add(KEY, frozenset(), crop_jobs.start(account, request))
    assert len(service.cropping) == 3
    assert found.running == [f"unmask-crop-{KEY[:16]}-{number}" for number in (1, 2, 3)]
    return found


def test_a_job_that_has_just_ended_does_not_keep_the_others_running(
    crops: Crops, service: Service
) -> None:
    first, second, third = crops.running
    service.end_processing(first, "Completed")
    assert crops.stop() == ([second, third], [])
    found = service.processing_jobs
    assert [found[name].processing_job_status for name in (first, second, third)] == [
        "Completed", "Stopping", "Stopping",
    ]  # fmt: skip


def test_a_job_that_can_not_be_stopped_is_named_and_the_others_are_stopped(
    crops: Crops, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = crops.running
    stop = SageMakerResponse.stop_processing_job

    def refuse_the_second(response: Any) -> Any:
        if json.loads(response.body)["ProcessingJobName"] == second:
            raise JsonRESTError("AccessDeniedException", "no")
        return stop(response)

    monkeypatch.setattr(SageMakerResponse, "stop_processing_job", refuse_the_second)
    told, [failure] = crops.stop()
    assert told == [first, third]
    assert failure.startswith(f"{second} still runs: Asked AWS to stop {second}; it was refused")
    assert service.processing_jobs[second].processing_job_status == "InProgress"


def test_works_are_read_by_one_client(crops: Crops, service: Service) -> None:
    """A session of boto3 makes clients in one thread only."""
    s3 = service.client("s3")
    location = {"LocationConstraint": REGION}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    for number in range(40):
        key = f"{number:064x}"
        s3.put_object(Bucket=BUCKET, Key=crops.place.asked(key), Body=json.dumps({}).encode())
    client, made = crops.place.account.session.client, []

    def counting(service: str, **named: Any) -> Any:
        made.append(service)
        return client(service, **named)

    crops.place.account.session.client = counting
    assert crops.find([], fetches=False) == []
    assert made == ["s3"]


@pytest.mark.parametrize("spot", [False, True])
def test_a_job_that_crops_has_no_model_to_fetch(spot: bool) -> None:
    name = crop_jobs.name_of(KEY, 1, spot=spot)
    done = CliRunner().invoke(main, ["sagemaker", "fetch", name], catch_exceptions=False)
    assert "made; it is a job that crops, and makes none. `unmask crop --on" in refuse(done)
