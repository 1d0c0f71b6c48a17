"""Models from a folder, from a real DVC repository, from MLflow's file and server."""

import os
import shutil
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.test_tracker import some_key
from unmask.answers.model_source import SHIPPED, chosen, is_shipped, named, resolve
from unmask.errors import WeightsError
from unmask.runtime.digests import mlflow_digest
from unmask.tracking.mlflow_client import default_uri
from unmask.tracking.mlflow_tracker import open_run

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def have(model, rev=None, *, cache, root=Path(), uri=NOWHERE):
    return resolve(str(model), rev, root=root, cache=cache, tracking_uri=uri)


def write_model(folder, weights=b"one"):
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "checkpoint.json").write_text("{}\n")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- what --model means


@pytest.mark.parametrize(
    ("here", "model", "rev", "meant"),
    [
        (["model"], None, None, "model"),
        ([], None, None, "SHIPPED"),
        ([], None, "v1", "model"),
        (["model"], "demonstration", None, "SHIPPED"),
        (["demonstration"], "demonstration", None, "demonstration"),
        ([], "other", None, "other"),
    ],
)
def test_without_a_folder_called_model_the_packages_own_answers(
    tmp_path, monkeypatch, here, model, rev, meant
):
    monkeypatch.chdir(tmp_path)
    for name in here:
        write_model(tmp_path / name)
    shipped = write_model(tmp_path / "shipped")
    found = chosen(model, rev, shipped=shipped)
    assert found == (str(shipped) if meant == "SHIPPED" else meant)


def test_a_broken_model_here_is_an_error_and_never_the_packages_own(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to("gone")
    shipped = write_model(tmp_path / "shipped")
    assert chosen(None, None, shipped=shipped) == "model"
    with pytest.raises(WeightsError, match=r"checkpoint\.json is not there"):
        named(None, None, cache=cache)


def test_a_package_without_a_model_asks_for_one(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    for model in (None, "demonstration"):
        assert chosen(model, None, shipped=tmp_path / "none") in ("model", str(tmp_path / "none"))
        with pytest.raises(WeightsError, match="Name a model's folder by --model"):
            named(model, None, cache=cache)
    assert is_shipped(str(SHIPPED))
    assert not is_shipped("model")


# ---------------------------------------------------------------- folders


def test_a_folder_is_itself(tmp_path, cache):
    model = write_model(tmp_path / "model")
    assert have(model, cache=cache) == model
    assert not cache.exists()


@pytest.mark.parametrize("gone", ["weights.safetensors", "checkpoint.json", None])
def test_a_missing_model_says_how_to_get_one(tmp_path, cache, gone):
    model = write_model(tmp_path / "model")
    shutil.rmtree(model) if gone is None else (model / gone).unlink()
    with pytest.raises(WeightsError) as caught:
        have(model, cache=cache)
    for way in ("make repro", "dvc pull model", "--rev", "models:/unmask@champion"):
        assert way in str(caught.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.json"])
def test_a_file_larger_than_any_models_is_not_read(tmp_path, cache, name):
    model = write_model(tmp_path / "model")
    os.truncate(model / name, 2**40)
    with pytest.raises(WeightsError, match=r"1,099,511,627,776 bytes, more than"):
        have(model, cache=cache)


@pytest.mark.parametrize(
    ("model", "rev", "said"),
    [
        ("s3://bucket/model", None, "known are a folder"),
        ("models:/unmask@champion", "v1", "versions, not revisions"),
    ],
)
def test_what_names_no_model_is_an_error(cache, model, rev, said):
    with pytest.raises(WeightsError, match=said):
        have(model, rev, cache=cache)


# ---------------------------------------------------------------- DVC


def call(root, *command):
    variables = os.environ | {"DVC_NO_ANALYTICS": "1"}
    author = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    committer = {name.replace("AUTHOR", "COMMITTER"): text for name, text in author.items()}
    subprocess.run(
        command, cwd=root, check=True, capture_output=True, env=variables | author | committer
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A DVC repository with two models, tagged v1 and v2, and its remote beside it."""
    root = tmp_path_factory.mktemp("dvc") / "repository"
    root.mkdir()
    call(root, "git", "init", "--quiet")
    call(root, "dvc", "init", "--quiet")
    call(root, "dvc", "remote", "add", "--quiet", "--default", "there", str(root.parent / "remote"))
    for number in (1, 2):
        write_model(root / "model", b"%d" % number)
        call(root, "dvc", "add", "--quiet", "model")
        call(root, "git", "add", "--all")
        call(root, "git", "commit", "--quiet", "--message", "A model")
        call(root, "git", "tag", f"v{number}")
    call(root, "dvc", "push", "--quiet", "--all-tags")
    return root


def state(root):
    """Return every file outside .git and DVC's own folder of notes, with its content."""
    return {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not {".git", "tmp"} & set(path.relative_to(root).parts)
    }


def test_a_revisions_model_comes_from_dvcs_cache_and_leaves_the_checkout_as_it_is(
    repository, cache
):
    before = state(repository)
    folder = have("model", "v1", root=repository, cache=cache)
    assert contents(folder) == {"weights.safetensors": b"1", "checkpoint.json": b"{}\n"}
    assert cache in folder.parents
    assert state(repository) == before
    assert have("model", "HEAD", root=repository, cache=cache) != folder


def test_from_a_clone_it_comes_from_the_remote_once_and_is_checked(repository, tmp_path, cache):
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    (clone / "below").mkdir()
    folder = have("../model", "v1", root=clone / "below", cache=cache)
    assert (folder / "weights.safetensors").read_bytes() == b"1"
    # What lies in our cache is looked through each time, and had again where it is damaged.
    (folder / "weights.safetensors").chmod(0o644)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    assert have("model", "v1", root=clone, cache=cache) == folder
    assert (folder / "weights.safetensors").read_bytes() == b"1"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_dvc_can_not_give_is_an_error(repository, tmp_path, cache):
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    with pytest.raises(WeightsError, match=r"revision v9 .*git fetch --tags"):
        have("model", "v9", root=clone, cache=cache)
    with pytest.raises(WeightsError, match="no such output"):
        have("other", "v1", root=clone, cache=cache)
    with pytest.raises(WeightsError, match="is not a git repository"):
        have("model", "v1", root=tmp_path, cache=cache)


def test_a_remote_without_the_model_or_with_another_is_an_error(repository, tmp_path, cache):
    clone, remote = tmp_path / "clone", tmp_path / "remote"
    call(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    call(clone, "dvc", "remote", "modify", "--local", "there", "url", str(remote))
    with pytest.raises(WeightsError, match="dvc push"):
        have("model", "v1", root=clone, cache=cache)
    shutil.copytree(repository.parent / "remote", remote)
    for path in remote.rglob("*"):
        if path.is_file() and path.read_bytes() == b"1":
            path.chmod(0o644)
            path.write_bytes(b"2")
    with pytest.raises(WeightsError, match="another digest"):
        have("model", "v1", root=clone, cache=cache)
    assert not list(cache.rglob("weights.safetensors"))


def strangers_clone(repository, tmp_path):
    """A clone whose cache and remote are empty, so that DVC asks what its configuration names."""
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    return clone


@pytest.mark.parametrize("option", ["configpath", "credentialpath"])
def test_no_program_runs_that_a_file_named_by_dvcs_configuration_names(
    repository, tmp_path, cache, option, monkeypatch
):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    clone, ran = strangers_clone(repository, tmp_path), tmp_path / "ran"
    aws = clone / "aws"
    section = "[profile evil]" if option == "configpath" else "[evil]"
    aws.write_text(f"{section}\ncredential_process = /usr/bin/touch {ran}\n")
    settings = {
        "url": "s3://bucket/models", "endpointurl": NOWHERE, "region": "eu-west-1",
        "profile": "evil", option: str(aws),
    }  # fmt: skip
    for name, value in settings.items():
        call(clone, "dvc", "remote", "modify", "there", name, value)
    call(clone, "git", "commit", "--quiet", "--all", "--message", "A remote")
    call(clone, "git", "tag", "theirs")
    with pytest.raises(WeightsError, match="revision theirs"):
        have("model", "theirs", root=clone, cache=cache)
    assert not ran.exists()
    assert "AWS_CONFIG_FILE" not in os.environ


def test_a_checkout_that_git_libraries_can_not_read_is_an_error(repository, tmp_path, cache):
    clone = strangers_clone(repository, tmp_path)
    call(clone, "git", "config", "core.repositoryformatversion", "1")
    call(clone, "git", "config", "extensions.partialClone", "origin")
    with pytest.raises(WeightsError, match="partialClone"):
        have("model", "v1", root=clone, cache=cache)


# ---------------------------------------------------------------- MLflow


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def uri(request):
    return request.getfixturevalue(f"{request.param}_uri")


@pytest.fixture
def logged(uri, tmp_path):
    """A model that a run logged and registered as champion, its content and the run's id."""
    model = write_model(tmp_path / "model", some_key().encode())
    key = some_key()
    with open_run(
        uri=uri, experiment="unmask", run_name=None, key=key, resume=False, queues=tmp_path
    ) as tracker:
        tracker.log_metrics({"test.video.auc.value": 0.5})
        tracker.log_model(model)
        tracker.register_model(model, "champion")
    return contents(model), client(uri).get_model_version_by_alias("unmask", "champion")


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def test_mlflows_names_of_a_model_lead_to_its_files(uri, logged, cache):
    files, version = logged
    names = (
        "models:/unmask@champion", f"models:/unmask/{version.version}", f"{version.source}",
        f"runs:/{version.run_id}/model", f"runs:/{version.run_id}/unmask",
    )  # fmt: skip
    folders = {have(name, cache=cache, uri=uri) for name in names}
    [folder] = folders
    assert contents(folder) == files
    assert folder.name == f"sha256-{mlflow_digest(folder)}"


def changed(uri, statements, folder):
    """Return the address of a copy of MLflow's file, in which somebody changed something."""
    copy = folder / "mlflow.db"
    shutil.copy(uri.removeprefix("sqlite:///"), copy)
    with closing(sqlite3.connect(copy)) as store:
        store.executescript(statements)
    return f"sqlite:///{copy}"


ENDLESS = (
    "ALTER TABLE registered_model_aliases RENAME TO theirs;"
    "CREATE VIEW registered_model_aliases AS WITH RECURSIVE r(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT theirs.* FROM theirs, r WHERE x < 0;"
)


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("uri", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (ENDLESS, "'registered_model_aliases', which is no table"),
        ("UPDATE logged_model_tags SET tag_value = '../../..'", "is no SHA-256"),
        (
            "UPDATE logged_models SET artifact_location = 'http://127.0.0.1:9/x'",
            "Asked MLflow at sqlite",
        ),
    ],
)
def test_a_strangers_file_of_mlflows_is_refused_at_once(
    sqlite_uri, tmp_path, cache, statements, said
):
    theirs = changed(sqlite_uri, statements, tmp_path)
    with pytest.raises(WeightsError, match=said):
        have("models:/unmask@champion", cache=cache, uri=theirs)
    assert not cache.exists() or not list(cache.rglob("*.safetensors"))


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("models:/unmask@nobody", "nobody"),
        ("models:/unmask/999", "999"),
        ("models:/nothing@champion", "nothing"),
        ("models:/unmask", "names no model"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "0123456789abcdef"),
    ],
)
def test_what_mlflow_does_not_have_is_an_error(sqlite_uri, cache, name, said):
    with pytest.raises(WeightsError, match=said) as caught:
        have(name, cache=cache, uri=sqlite_uri)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_down_is_told_soon(cache):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    before = time.monotonic()
    with pytest.raises(WeightsError, match="refused") as caught:
        have("models:/unmask@champion", cache=cache, uri=f"http://ada:secret@127.0.0.1:{port}")
    assert time.monotonic() - before < 30
    assert "secret" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WeightsError, match="timed out"):
            have("models:/unmask@champion", cache=cache, uri=uri)
    assert time.monotonic() - before < 60


def test_a_store_that_is_not_there_is_not_made(tmp_path, cache):
    with pytest.raises(WeightsError, match="MLFLOW_TRACKING_URI is not set"):
        have("models:/unmask@champion", cache=cache, uri=default_uri({}, tmp_path))
    assert list(tmp_path.iterdir()) == []
