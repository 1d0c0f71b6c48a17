"""An S3 server on loopback, as a context: moto's, which checks no rights, with the one who asks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

REGION, BUCKET = "eu-west-1", "the-remote"


@contextmanager
def running_s3() -> Iterator[tuple[dict[str, str], Any]]:
    """Give the variables of who asks the server, and a client; there is a bucket `the-remote`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    moto_api_backend.reset()  # an earlier server's: they live in this process
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-this-test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    client = boto3.client(
        "s3", endpoint_url=variables["AWS_ENDPOINT_URL"], region_name=REGION,
        aws_access_key_id="AKIATEST", aws_secret_access_key="a-secret-of-this-test",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    try:
        yield variables, client
    finally:
        server.stop()


def names(client: Any, prefix: str = "") -> list[str]:
    """Return the names of the bucket's objects."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def without_aws() -> dict[str, str]:
    """Return the environment without what would say something about AWS."""
    return {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
