"""What AWS can say before a job costs money: who asks, and whether what a job needs is there."""

import logging
import re
from dataclasses import dataclass
from typing import Any

from unmask.runtime.addresses import redacted
from unmask.sagemaker.config import VARIABLE, JobConfig
from unmask.sagemaker.contract import JobError
from unmask.storage.blobs import MAX_CONNECTIONS
from unmask.storage.s3 import asking, code_of, signed_out

log = logging.getLogger(__name__)

_BUILD = "Build and push it: containers/build_and_push"
_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9._/-]+)(:(?P<tag>[\w.-]+)|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Account:
    """An AWS account in one region, as the one whose credentials these are sees it."""

    session: Any  # boto3's
    region: str
    number: str

    def client(self, service: str, *, attempts: int = 8) -> Any:
        """Return a client that tries again where the network or the service fails."""
        from botocore.config import Config

        patience = Config(
            retries={"mode": "standard", "max_attempts": attempts}, connect_timeout=10,
            max_pool_connections=MAX_CONNECTIONS,
        )  # fmt: skip
        return self.session.client(service, config=patience)


def sign_in(region: str | None) -> Account:
    """Return the account that the environment's credentials belong to.

    Raises:
        JobError: there is no region, or no credentials that AWS takes.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(region_name=region)
    except BotoCoreError as error:  # no such profile, or a file of settings that can't be read
        raise signed_out("who you are", str(error)) from error
    if session.region_name is None:
        raise JobError(
            "Asked for a job in a region of AWS; found none. Give --region, or set "
            f"{VARIABLE}REGION or AWS_REGION, such as eu-west-1."
        )
    with asking("who you are", "sts:GetCallerIdentity"):
        number = session.client("sts").get_caller_identity()["Account"]
    return Account(session, session.region_name, number)


def check_bucket(account: Account, bucket: str | None) -> str:
    """Return the bucket, which is there, in the job's region.

    Raises:
        JobError: none was given, or it is missing, another's, or elsewhere.
    """
    from botocore.exceptions import ClientError

    if not bucket:
        raise JobError(
            "Asked for a job, which reads and writes a bucket of S3; found none. Give --bucket or "
            f"set {VARIABLE}BUCKET."
        )
    request = f"for the bucket {bucket}"
    with asking(request, "s3:ListBucket"):
        try:
            answer = account.client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                raise JobError(
                    f"Asked for the bucket {bucket}; there is none of that name. Make it in "
                    f"{account.region} (`aws s3 mb s3://{bucket} --region {account.region}`), or "
                    "name another by --bucket."
                ) from error
            answer = error.response
            if not _region_of(answer):
                raise
    found = _region_of(answer)
    if found and found != account.region:
        raise JobError(
            f"Asked for a job in {account.region}; the bucket {bucket} is in {found}, and a job "
            "reads only its own region. Give --region, or another --bucket."
        )
    return bucket


def bucket_region(account: Account, bucket: str) -> str | None:
    """Return the region of a bucket; None where that is not for us to know."""
    from botocore.exceptions import ClientError

    with asking(f"for the bucket {bucket}", "s3:ListBucket"):
        try:
            return _region_of(account.client("s3").head_bucket(Bucket=bucket))
        except ClientError as error:
            log.info("bucket %s can't be looked at (%s)", bucket, code_of(error))
        return None


def _region_of(answer: dict[str, Any]) -> str | None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
    # A bucket of another account answers 403 with its region: that is no answer of ours.
    refused = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403
    return None if refused else region


def check_role(account: Account, role: str | None) -> str:
    """Return the role's ARN; that it is there is asked where we may ask.

    Raises:
        JobError: none was given, it is no ARN, or there is no such role.
    """
    from botocore.exceptions import ClientError

    remedy = f"Give --role or set {VARIABLE}ROLE, such as arn:aws:iam::{account.number}:role/unmask"
    if not role:
        raise JobError(f"Asked for a job, which works as an IAM role; found none. {remedy}.")
    parts = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):role/([\w+=,.@/-]+)", role)
    if not parts:
        raise JobError(f"Asked for a job as the IAM role {role!r}, which is no ARN. {remedy}.")
    if parts[1] != account.number:
        raise JobError(
            f"Asked for a job as {role}; you are signed in to the account {account.number}, and a "
            f"role works only in its own. {remedy}, or sign in to the other account."
        )
    with asking(f"for the role {role}", "iam:GetRole"):
        try:
            account.client("iam").get_role(RoleName=parts[2].rpartition("/")[2])
        except ClientError as error:
            if code_of(error) == "NoSuchEntity":
                raise JobError(
                    f"Asked for a job as {role}; there is no such role. Make it, with SageMaker as "
                    f"who may take it, or give another. {remedy}."
                ) from error
            log.info("the role is not checked: iam:GetRole answers %s", code_of(error))
    return role


def check_image(account: Account, image: str | None, *, commit: str | None, repository: str) -> str:
    """Return the image to train in: as asked, or of the commit in this account's ECR.

    Raises:
        JobError: it is in another region, or not there; or there is neither image nor commit.
    """
    from botocore.exceptions import ClientError

    if image is None and commit is None:
        raise JobError(
            "Asked for the image of this checkout's Git commit; found no commit, or a shallow "
            "clone, which hides it. Run `git fetch --unshallow`, or give --image."
        )
    if image is None:
        host = f"{account.number}.dkr.ecr.{account.region}.amazonaws.com"
        image = f"{host}/{repository}:{commit}"
    parts = _ECR.fullmatch(image)
    if not parts:
        raise JobError(
            f"Asked to train in {image}, which is no image in ECR; SageMaker takes others only "
            f"with further settings. {_BUILD}, and name what it pushed."
        )
    if parts["region"] != account.region:
        raise JobError(
            f"Asked for a job in {account.region}; the image {image} is in {parts['region']}. Push "
            "it to the job's region, or give --region."
        )
    name = (
        {"imageDigest": parts["digest"]}
        if parts["digest"]
        else {"imageTag": parts["tag"] or "latest"}
    )
    with asking(f"for the image {image}", "ecr:DescribeImages"):
        try:
            account.client("ecr").describe_images(
                registryId=parts["account"], repositoryName=parts["repository"], imageIds=[name]
            )
        except ClientError as error:
            if code_of(error) in ("RepositoryNotFoundException", "ImageNotFoundException"):
                raise JobError(
                    f"Asked to train in {image}; ECR has no such image. {_BUILD}."
                ) from error
            raise
    return image


def check_quota(account: Account, job_config: JobConfig, *, kind: str) -> None:
    """Raise where the account may start too few of these machines; warn where that can't be read.

    kind is the job's, as the names of quotas have it: `training` or `processing`.

    Raises:
        JobError: the quota is less than what is asked for.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    spot = "spot " if job_config.spot else ""
    name = f"{job_config.instance_type} for {spot}{kind} job usage"
    pages = account.client("service-quotas", attempts=2).get_paginator("list_service_quotas")
    try:
        quotas = [
            quota["Value"]
            for page in pages.paginate(ServiceCode="sagemaker")
            for quota in page["Quotas"]
            if quota["QuotaName"] == name
        ]
    except (ClientError, BotoCoreError) as error:
        log.warning("not checked: whether you may start %s (%s)", name, redacted(str(error)))
        return
    if not quotas:
        log.warning("not checked: whether you may start %s (no quota of that name)", name)
    elif quotas[0] < job_config.instance_count:
        raise JobError(
            f"Asked for {job_config.instance_count} {job_config.instance_type}; the account's "
            f"quota `{name}` is {quotas[0]:g}. Ask for more in AWS's console, Service Quotas, "
            "Amazon SageMaker; or choose another --instance-type."
        )
