"""Whether nodes see a shared folder, or may use a remote; what reaches them and comes back."""

import json
import os
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.core.responses import ActionAuthenticatorMixin
from painted import SETTINGS, load_squares
from pydantic import ValidationError
from s3_server import BUCKET, REGION, names, running_s3
from shard_videos import ROOT, contents, make_project
from small_project import run

from unmask import params
from unmask.cluster.files import FromRemote, RemoteFiles, SeenFolder, SharedFolder
from unmask.errors import UnmaskError
from unmask.faces import shards
from unmask.faces.crops import Job, crop_chunk, find_missing, find_videos
from unmask.faces.shards import Shard
from unmask.storage.blobs import BlobError, Store, StoredFile
from unmask.storage.s3 import Remote

pytestmark = pytest.mark.slow

# ---------------------------------------------------------------- a shared folder


def test_a_node_that_sees_another_folder_says_so(tmp_path):
    """Its folder of that name is its own: the marker is not there, or is another run's."""
    here, there = SharedFolder(tmp_path / "here"), SharedFolder(tmp_path / "there")
    assert here.to_probe() == here.to_probe()
    assert here.to_probe().fault() == ""
    seen = there.to_probe()
    assert seen.fault() == ""
    wrong = SeenFolder(seen.root, seen.marker, here.to_probe().written)
    assert wrong.fault().startswith(f"it does not see {tmp_path}/there, which this machine has")
    there.close()
    assert seen.fault().startswith("it does not see")
    here.close()


def test_drivers_in_one_checkout_have_a_marker_each(tmp_path):
    """One that ends takes its own away alone; what a killed one left is deleted by the next."""
    first, second = SharedFolder(tmp_path), SharedFolder(tmp_path)
    seen = first.to_probe(), second.to_probe()
    assert seen[0].written != seen[1].written
    first.close()
    assert not first.marker.exists()
    assert seen[1].fault() == ""
    os.close(second._lock)  # as when it is killed
    third = SharedFolder(tmp_path)
    third.to_probe()
    assert list(third.marker.parent.iterdir()) == [third.marker]
    third.close()
    assert not third.marker.parent.exists()


def test_no_chunk_s_shards_lie_where_the_marker_does(tmp_path):
    """Chunks may be called anything that params.yaml takes, also `shared`."""
    marker = SharedFolder(tmp_path).marker
    assert marker.parent == tmp_path / shards.SHARDS_DIR
    with pytest.raises(ValidationError, match="must be a plain name below data/chunks"):
        params.Params.model_validate(
            yaml.safe_load((ROOT / "params.yaml").read_text()) | {"chunks": [marker.name]}
        )


# ---------------------------------------------------------------- a remote

GRAPH = "stages:\n  raw:\n    cmd: 'true'\n    outs: [raw/wild/videos]\n"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with running_s3() as (variables, client):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        yield client


@pytest.fixture
def jobs(tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Videos in a checkout that is the current folder; they are in the remote."""
    root = make_project(tmp_path / "root", [f"v{number}" for number in range(3)])
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    remote = shared\n"
        f"['remote \"shared\"']\n    url = s3://{BUCKET}/shared\n"
    )
    (root / "dvc.yaml").write_text(GRAPH)
    monkeypatch.chdir(root)
    run(root, "dvc", "commit", "--force", "--quiet")
    for path in (root / "raw/wild/videos").iterdir():
        digest = md5(path.read_bytes()).hexdigest()
        name = f"shared/files/md5/{digest[:2]}/{digest[2:]}"
        s3.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())
    videos = find_videos(Path("raw/wild/videos"))
    list(crop_chunk(videos, Path("by_one_run"), SETTINGS, workers=1, load_detector=load_squares))
    return find_missing(videos, Path("faces/wild"), SETTINGS, workers=1)


def test_a_shard_goes_by_the_remote_and_comes_back(jobs, s3, monkeypatch, tmp_path):
    files = RemoteFiles(Path.cwd())
    files.find(jobs, "raw")
    shard = Shard(tuple(jobs))
    on_node = files.of(shard)
    assert on_node.fault() == ""
    (tmp_path / "node").mkdir()
    with monkeypatch.context() as patched:  # where there is neither checkout nor DVC
        patched.chdir(tmp_path / "node")
        digests = on_node.crop(shard, Path("unused"), workers=1, load_detector=load_squares)
    assert list((tmp_path / "node").iterdir()) == []
    assert len(names(s3, "shared/crop_shards/wild/")) == 4 + 3
    folder = Path(".crop_shards/wild/one")
    files.collect(jobs, folder, passing=True)
    Path("faces/wild").mkdir(parents=True)
    assert len(list(shards.take_in(folder, shard, digests))) == 4
    wanted = contents(Path("by_one_run"))
    del wanted["index.jsonl"]
    assert contents(Path("faces/wild")) == wanted


def test_what_the_remote_lacks_is_named_before_anything_starts(jobs, s3):
    digest = md5(Path("raw/wild/videos/v1.mp4").read_bytes()).hexdigest()
    s3.delete_object(Bucket=BUCKET, Key=f"shared/files/md5/{digest[:2]}/{digest[2:]}")
    with pytest.raises(
        UnmaskError, match=r"it lacks 1 of them, such as raw/wild/videos/v1.mp4. Run `dvc push raw`"
    ):
        RemoteFiles(Path.cwd()).find(jobs, "raw")


def test_a_blob_of_other_content_is_named_on_the_node(jobs, s3):
    files = RemoteFiles(Path.cwd())
    files.find(jobs, "raw")
    content = Path("raw/wild/videos/v1.mp4").read_bytes()
    digest = md5(content).hexdigest()
    s3.put_object(
        Bucket=BUCKET,
        Key=f"shared/files/md5/{digest[:2]}/{digest[2:]}",
        Body=bytes(len(content)),  # as long: a listing shows no difference
    )
    files.find(jobs, "raw")
    shard = Shard(tuple(jobs))
    with pytest.raises(BlobError, match=r"raw/wild/videos/v1.mp4: asked for content of MD5"):
        files.of(shard).crop(shard, Path("unused"), workers=1, load_detector=load_squares)
    assert Path.cwd().name == "root"


def test_a_checkout_without_such_a_remote_is_refused(jobs):
    config = Path(".dvc/config")
    config.write_text(config.read_text().replace(f"s3://{BUCKET}", "/mnt"))
    with pytest.raises(UnmaskError, match=r"default remote is no folder in S3. Set one"):
        RemoteFiles(Path.cwd())
    assert jobs


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (["s3:ListBucket", "s3:GetObject", "s3:PutObject"], ""),
        (["s3:ListBucket", "s3:GetObject"], "s3://the-remote/crop_shards/; it was refused:"),
        (["s3:PutObject"], "s3://the-remote/files/md5/5d/41402abc4b2a76b9719d911017c592; it was r"),
    ],
)
def test_a_node_without_rights_says_which(allowed, words, s3, monkeypatch):
    """The server checks them, from the moment at which it is told to."""
    endpoint = s3.meta.endpoint_url
    keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "a"}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name=REGION, **keys)
    iam.create_user(UserName="node")
    rights = [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": rights})
    iam.put_user_policy(UserName="node", PolicyName="node", PolicyDocument=policy)
    key = iam.create_access_key(UserName="node")["AccessKey"]
    file = StoredFile("a.mp4", "5d41402abc4b2a76b9719d911017c592", 5)
    store = Store(BUCKET, "files/md5")
    s3.put_object(Bucket=BUCKET, Key=store.object_name(file), Body=b"hello")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    on_node = FromRemote(Remote(store, endpoint, REGION), (file,))
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    said = on_node.fault()
    assert said.startswith("Asked AWS ") if words else not said
    assert words in said
