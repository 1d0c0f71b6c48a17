"""Sharing by an S3 remote, with README's commands, against a real server on this machine."""

import contextlib
import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from small_project import call, commit, predict, run

KEY_ID, SECRET = "unmask", "a-secret-of-this-test"
FOLDERS = ("data", "raw", "faces", "model", "plots", "metrics")
PARTS = ("master", "volume", "filer", "s3")  # of the server, each with two ports

pytestmark = pytest.mark.slow


class Store:
    """The bucket `unmask` behind endpoint, as its owner sees it."""

    def __init__(self, port):
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def names(self, prefix):
        """Return the names of all objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket="unmask", Prefix=prefix
        )
        return {found["Key"] for page in pages for found in page.get("Contents", [])}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """SeaweedFS with one user, who may do anything, and the bucket `unmask`."""
    root = tmp_path_factory.mktemp("seaweedfs")
    user = {
        "name": "ada",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin"],
    }
    (root / "users.json").write_text(json.dumps({"identities": [user]}))
    ports = free_ports(8)
    names = [f"-{part}.port{kind}" for part in PARTS for kind in ("", ".grpc")]
    command = [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr=true",
        "server",
        f"-dir={root}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-s3",
        f"-s3.config={root / 'users.json'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={root / 's3.sock'}",
        f"-filer.localSocket={root / 'filer.sock'}",
        *(f"{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]
    with (root / "log").open("w") as log, subprocess.Popen(command, stderr=log, cwd=root) as server:
        try:
            store = Store(ports[names.index("-s3.port")])
            make_bucket(store, server, root / "log")
            yield store
        finally:
            server.kill()  # after SIGTERM it may wait forever for a log it cannot write
            for port in ports:
                for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                    path.unlink()


def free_ports(count):
    """Return ports of this machine that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def make_bucket(store, server, log):
    """Create the bucket as soon as the server takes it."""
    deadline_s = time.monotonic() + 60
    while True:
        assert server.poll() is None, log.read_text()
        try:
            store.client.create_bucket(Bucket="unmask")
        except (BotoCoreError, ClientError):
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.2)
        else:
            return


class Line:
    """A line to a port that breaks, until it is mended, when one upload too many begins."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.uploads_left = float("inf")
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return  # closed: the test is over
            far = socket.create_connection(self.target)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, target):
        """Hand bytes on until an end closes or the line breaks."""
        # A connection that another thread has shut down raises: it is over, which is no error.
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                self.uploads_left -= data.startswith(b"PUT ")
                if self.uploads_left < 0:
                    break
                target.sendall(data)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(store):
    """A line to the server's S3 port."""
    line = Line(store.port)
    yield line
    line.listening.close()


@pytest.fixture(scope="module")
def shared(project, store, tmp_path_factory):
    """A copy of the project whose chunk and results have been pushed as README says."""
    root = tmp_path_factory.mktemp("shared") / "project"
    shutil.copytree(project, root)
    run(root, "dvc", "add", "data/chunks/wild")
    assert "up to date" in run(root, "dvc", "repro")
    run(root, "dvc", "remote", "add", "-d", "s3", "s3://unmask/shared")
    run(root, "dvc", "remote", "modify", "s3", "endpointurl", store.endpoint)
    sign_in(root)
    commit(root, "Share data")
    run(root, "dvc", "push")
    return root


def sign_in(root, key_id=KEY_ID, secret=SECRET):
    """Give this clone, and no commit, a key."""
    run(root, "dvc", "remote", "modify", "--local", "s3", "access_key_id", key_id)
    run(root, "dvc", "remote", "modify", "--local", "s3", "secret_access_key", secret)


def clone(shared, root):
    """Return a colleague's clone, which has no key yet."""
    run(shared, "git", "clone", "--quiet", str(shared), str(root))
    return root


def files(root, folders):
    """Return the bytes of every file in the folders by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def refuse(root, *command, **variables):
    """Return what a command that must fail said, after checking that it touched no file."""
    before = files(root, (*FOLDERS, ".dvc/cache"))
    done = call(root, *command, **variables)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    assert files(root, (*FOLDERS, ".dvc/cache")) == before
    return done.stderr


def test_the_key_is_in_no_commit(shared):
    assert SECRET in (shared / ".dvc/config.local").read_text()
    assert SECRET not in run(shared, "git", "log", "--patch", "--all")
    assert run(shared, "git", "status", "--porcelain") == ""


def test_a_clone_pulls_all_and_has_nothing_to_do(shared, tmp_path):
    colleague = clone(shared, tmp_path / "clone")
    assert "Unable to locate credentials" in refuse(colleague, "dvc", "pull")
    sign_in(colleague)
    run(colleague, "dvc", "pull")
    pulled = files(colleague, FOLDERS)
    assert pulled == files(shared, FOLDERS)
    assert "data/chunks/wild/metadata.json" in pulled
    assert "in sync" in run(colleague, "dvc", "status", "-c")
    assert "Data and pipelines are up to date" in run(colleague, "dvc", "repro")
    assert run(colleague, "git", "status", "--porcelain") == ""


def test_predict_needs_only_the_model(shared, tmp_path):
    colleague = clone(shared, tmp_path / "clone")
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    run(colleague, "dvc", "pull", "model", **keys)
    assert not (colleague / "raw").exists()
    with (shared / "metrics/scores.csv").open(newline="") as lines:
        row = next(row for row in csv.DictReader(lines) if row["probability"])
    clip = str(shared / f"data/chunks/wild/{row['video_id']}.mp4")
    [answer] = predict(colleague, clip)
    assert answer["probability"] == pytest.approx(float(row["probability"]), abs=1e-3)


@pytest.mark.parametrize(("key_id", "secret"), [("nobody", SECRET), (KEY_ID, "wrong")])
def test_a_wrong_key_is_refused_and_loses_nothing(shared, tmp_path, key_id, secret):
    colleague = tmp_path / "colleague"
    shutil.copytree(shared, colleague)
    sign_in(colleague, key_id, secret)
    assert "Forbidden" in refuse(colleague, "dvc", "push")
    assert "Forbidden" in refuse(colleague, "dvc", "pull", "--force")


def test_a_missing_bucket_is_named(shared, store, tmp_path):
    mistaken = tmp_path / "mistaken"
    shutil.copytree(shared, mistaken)
    run(mistaken, "dvc", "remote", "modify", "s3", "url", "s3://unmaks/shared")
    assert "The specified bucket does not exist" in refuse(mistaken, "dvc", "push")
    buckets = [found["Name"] for found in store.client.list_buckets()["Buckets"]]
    assert buckets == ["unmask"]


def test_a_cut_push_is_finished_by_the_next(shared, store, line, tmp_path):
    sender = tmp_path / "sender"
    shutil.copytree(shared, sender)
    run(sender, "dvc", "remote", "modify", "s3", "url", "s3://unmask/cut")
    run(sender, "dvc", "remote", "modify", "s3", "endpointurl", line.endpoint)
    line.uploads_left = 20
    # Four at a time: 16 at least have been answered by then. One attempt instead of five: sooner.
    said = refuse(sender, "dvc", "push", "--jobs", "4", AWS_MAX_ATTEMPTS="1")
    assert f'endpoint URL: "{line.endpoint}' in said
    line.uploads_left = float("inf")
    arrived = store.names("cut/")
    wanted = {name.replace("shared/", "cut/", 1) for name in store.names("shared/")}
    assert arrived < wanted
    assert len(arrived) >= 16
    said = run(sender, "dvc", "push")
    assert int(re.search(r"(\d+) files? pushed", said)[1]) == len(wanted - arrived)
    assert store.names("cut/") == wanted
    assert "in sync" in run(sender, "dvc", "status", "-c")
