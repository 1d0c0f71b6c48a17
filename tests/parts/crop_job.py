"""A cropping job as SageMaker runs it: its folders from the request, its program, its output."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from unmask.sagemaker import crop_contract

ROOT = Path(__file__).parents[2]


def lay_down(request: dict[str, Any], base: Path, s3: Any) -> Path:
    """Fill base with what the service puts into /opt/ml; return the folder of the job's output."""
    if "ProcessingJobName" in request:
        sources = {
            each["S3Input"]["LocalPath"]: each["S3Input"] for each in request["ProcessingInputs"]
        }
        [output] = request["ProcessingOutputConfig"]["Outputs"]
        out = place(base, output["S3Output"]["LocalPath"])
    else:
        sources = {
            f"/opt/ml/input/data/{each['ChannelName']}": each["DataSource"]["S3DataSource"]
            for each in request["InputDataConfig"]
        }
        out = place(base, request["CheckpointConfig"]["LocalPath"])
        fetch_folder(s3, request["CheckpointConfig"]["S3Uri"] + "/", out)
    for path, source in sources.items():
        folder = place(base, path)
        if source["S3DataType"] == "ManifestFile":
            first, *names = json.loads(read(s3, source["S3Uri"]))
            for name in names:
                write(folder / name, read(s3, first["prefix"] + name))
        else:
            fetch_folder(s3, source["S3Uri"], folder)
    out.mkdir(parents=True, exist_ok=True)
    return out


def place(base: Path, path: str) -> Path:
    return base / Path(path).relative_to("/opt/ml")


def read(s3: Any, address: str) -> bytes:
    bucket, _, name = address.removeprefix("s3://").partition("/")
    content: bytes = s3.get_object(Bucket=bucket, Key=name)["Body"].read()
    return content


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def fetch_folder(s3: Any, address: str, folder: Path) -> None:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for name in [item["Key"] for page in pages for item in page.get("Contents", [])]:
        write(folder / name.removeprefix(prefix), read(s3, f"s3://{bucket}/{name}"))


def address_of_results(request: dict[str, Any]) -> str:
    """Return where the service uploads what the job makes."""
    if "ProcessingJobName" in request:
        [output] = request["ProcessingOutputConfig"]["Outputs"]
        return str(output["S3Output"]["S3Uri"])
    return str(request["CheckpointConfig"]["S3Uri"])


def upload(request: dict[str, Any], out: Path, s3: Any) -> None:
    """Do what the service does whenever something is new in the job's output."""
    bucket, _, prefix = address_of_results(request).removeprefix("s3://").partition("/")
    for path in sorted(out.rglob("*")):
        if path.is_file():
            name = f"{prefix}/{path.relative_to(out).as_posix()}"
            s3.put_object(Bucket=bucket, Key=name, Body=path.read_bytes())


def start(base: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start the job's program, with the tests' detector of painted squares; its words in log."""
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/parts"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
    }
    clean = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    with (base / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, __file__], cwd=base, env=clean | variables | environment,
            stdout=log, stderr=log, text=True,
        )  # fmt: skip


def said(base: Path) -> str:
    return (base / "log").read_text()


def message(base: Path) -> str:
    """Return what the service shows of a job that failed."""
    path = base / "output/message"
    return path.read_text() if path.is_file() else ""


if __name__ == "__main__":  # workers import this file again
    from shard_videos import load_moody

    assert crop_contract.PROCESSING_OUTPUT
    program = runpy.run_path(str(ROOT / "containers/crop.py"))
    program["run"](Path(os.environ["SAGEMAKER_BASE_DIR"]), load_moody)
