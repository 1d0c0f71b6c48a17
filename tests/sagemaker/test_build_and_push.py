"""An image reaches a registry, under its commit's name; AWS is asked for the registry."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import bcrypt
import boto3
import pytest
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
ENGINE, REGISTRY = "podman", "docker-registry"


def load(path: Path):
    loader = SourceFileLoader("build_and_push", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the script, whose image is a few bytes."""
    root = tmp_path / "checkout"
    (root / "containers").mkdir(parents=True)
    shutil.copy(ROOT / "containers/build_and_push", root / "containers")
    (root / "containers/Dockerfile").write_text(
        "FROM scratch\nCOPY LICENSE /\nARG GIT_COMMIT\nLABEL revision=${GIT_COMMIT}\n"
    )
    (root / "LICENSE").write_text("all of it\n")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "UNMASK_SAGEMAKER_REPOSITORY",
                 "UNMASK_REGISTRY", "UNMASK_BUILD_OPTIONS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root)
    return root


def commit(root: Path) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b"}  # fmt: skip
    for command in (["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=root, env=os.environ | who, check=True)


@pytest.fixture
def script(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # as where it is run, not imported
    return load(checkout / "containers/build_and_push")


def head(checkout: Path) -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.run(
        asked, cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()


# ---------------------------------------------------------------- the commit


def test_the_tag_is_the_commit(script, checkout: Path) -> None:
    (checkout / "notes.txt").write_text("not in the image")
    tag = head(checkout)
    assert script.read_commit(allow_dirty=False) == tag
    commit(checkout)  # of what is not in the image
    assert script.read_commit(allow_dirty=False) == tag != head(checkout)
    (checkout / "LICENSE").write_text("others")
    commit(checkout)
    assert script.read_commit(allow_dirty=False) == head(checkout) != tag


def test_a_checkout_without_a_commit_has_no_image(script, checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    with pytest.raises(script.BuildError, match="Asked for an image of the last commit"):
        script.read_commit(allow_dirty=False)


@pytest.mark.parametrize("file", ["LICENSE", "src/unmask/new.py"])
def test_what_differs_from_the_commit_is_built_only_on_request(
    script, checkout: Path, file: str
) -> None:
    (checkout / file).parent.mkdir(parents=True, exist_ok=True)
    (checkout / file).write_text("other")
    with pytest.raises(script.BuildError, match=rf"(?s){file.split('/')[0]}.*--allow-dirty"):
        script.main([])
    assert script.read_commit(allow_dirty=True) == f"{head(checkout)}-dirty"


def test_no_engine_is_said(script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(script.BuildError, match="no docker or podman that answers"):
        script.find_engine()


def test_an_engine_that_does_not_answer_is_passed_over(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in (("docker", 1), ("podman", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.find_engine() == "podman"


# ---------------------------------------------------------------- AWS


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of an AWS on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
def test_the_repository_is_made_once(script, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    for _ in range(2):
        registry, login = script.prepare_ecr("faces/unmask")
        assert registry == "123456789012.dkr.ecr.eu-west-3.amazonaws.com"
        assert login.user == "AWS"
        assert login.password
    ecr = boto3.client("ecr", region_name="eu-west-3", endpoint_url=aws)
    names = [each["repositoryName"] for each in ecr.describe_repositories()["repositories"]]
    assert names == ["faces/unmask"]


def test_a_region_is_needed(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(script.BuildError, match=r"no region is set\. Set AWS_REGION"):
        script.prepare_ecr("unmask")


def test_aws_out_of_reach_is_one_sentence(script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(script.BuildError, match=r"Could not connect .* ecr:CreateRepository"):
        script.prepare_ecr("unmask")


# ---------------------------------------------------------------- a real registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a registry that wants a password."""
    if not (shutil.which(ENGINE) and shutil.which(REGISTRY) and os.geteuid() == 0):
        pytest.skip(f"needs root, {ENGINE} and {REGISTRY}, packages of Debian's")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"AWS:{hashed}\n")
    (tmp_path / "registry.yml").write_text(f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: {tmp_path / "registry"}}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: test, path: {tmp_path / "htpasswd"}}}}}
""")
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
    )
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [REGISTRY, "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log
        )
    # Not before: the registry too would take this for a setting.
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    give_up = time.monotonic() + 20
    try:
        while not answers(address):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < give_up, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/", timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_an_image_is_pushed_and_pulled_by_its_digest(
    script, checkout: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "find_engine", lambda: ENGINE)
    # AWS's answers are tried above; its registry is none that runs here.
    given = (registry, script.Login("AWS", "secret"))
    monkeypatch.setattr(script, "prepare_ecr", lambda _: given)
    image = script.main([])
    tagged = f"{registry}/unmask:{head(checkout)}"
    try:
        assert image.startswith(f"{registry}/unmask@sha256:")
        subprocess.run([ENGINE, "rmi", "--force", tagged], check=True, capture_output=True)
        subprocess.run([ENGINE, "pull", "--quiet", image], check=True, capture_output=True)
        asked = [ENGINE, "inspect", "--format", "{{.Config.Labels.revision}}", image]
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        assert found == head(checkout)
        # Another registry than ECR: nobody asks AWS, and one has logged in before.
        monkeypatch.setenv("UNMASK_REGISTRY", registry)
        monkeypatch.setattr(script, "prepare_ecr", None)
        assert script.main([]).partition("@")[0] == f"{registry}/unmask"
    finally:
        for name in (image, tagged):
            subprocess.run([ENGINE, "rmi", "--force", name], check=False, capture_output=True)


@pytest.mark.slow
def test_a_wrong_password_stops_before_the_push(
    script, checkout: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "find_engine", lambda: ENGINE)
    given = (registry, script.Login("AWS", "wrong"))
    monkeypatch.setattr(script, "prepare_ecr", lambda _: given)
    with pytest.raises(script.BuildError, match=r"podman login .* failed") as error:
        script.main([])
    assert "wrong" not in str(error.value)
    tagged = f"{registry}/unmask:{head(checkout)}"
    subprocess.run([ENGINE, "rmi", tagged], check=True, capture_output=True)
