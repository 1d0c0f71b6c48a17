"""containers/compose.yaml and its Dockerfiles: what they promise, read from the files."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
DOCKERFILES = sorted([FOLDER / "Dockerfile", *FOLDER.glob("*.Dockerfile")])


def read() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def test_it_is_a_compose_file() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema",
         "vendor.compose-spec", str(FOLDER / "compose.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_bound_beyond_loopback_or_may_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("network_mode") is None
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged", False)
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_come_from_files_alone(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search("PASSWORD|SECRET|_KEY|CREDENTIALS", variable):
            assert str(value).startswith("/run/secrets/"), variable
    used = set(re.findall(r"/run/secrets/(\w+)", json.dumps(service)))
    if name == "prometheus":
        text = (FOLDER / "monitoring" / "prometheus.compose.yaml").read_text()
        used |= set(re.findall(r"/run/secrets/(\w+)", text))
    assert used == set(service.get("secrets", []))


def test_what_stays_lies_in_volumes_and_all_that_is_named_is_there() -> None:
    found = read()
    mounted = [volume for each in SERVICES.values() for volume in each.get("volumes", [])]
    sources = {volume.split(":")[0] for volume in mounted}
    assert {each for each in sources if not each.startswith("./")} == set(found["volumes"])
    for path in sources - set(found["volumes"]):
        assert (FOLDER / path).exists(), path
    for each in SERVICES.values():
        if "build" in each:
            assert (FOLDER / each["build"]["context"] / each["build"]["dockerfile"]).is_file()
        else:  # somebody else's: one version, not whatever is newest
            assert re.search(r":v?\d+[\w.-]*$", each["image"]), each["image"]
        assert set(each["networks"]) <= set(found["networks"])


def test_the_server_runs_as_its_image_is_meant_to() -> None:
    serve = SERVICES["serve"]
    assert serve["read_only"] is True
    assert serve["cap_drop"] == ["ALL"]
    text = (FOLDER / "serve.Dockerfile").read_text()
    assert "VOLUME /scratch" in text
    assert serve["volumes"] == ["videos:/scratch"]
    probe = re.search(r"CMD (\[.*\])\nENT", re.sub(r"#.*\n", "", text))
    assert probe
    assert serve["healthcheck"]["test"] == ["CMD", *json.loads(probe[1])]
    assert str(serve["ports"][0]).endswith(":7860")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_hold_what_is_pinned_by_digest(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    for command in re.findall(r"pip[^&\n]* install [^&\n]*", text):
        assert "--require-hashes" in command or "--no-index" in command, command
    for name in re.findall(r"-r /tmp/([\w.]+)", text):
        pinned = (FOLDER / name).read_text()
        names = re.findall(r"^[\w.-]+==\S+", pinned, re.M)
        assert names
        assert pinned.count("--hash=sha256:") >= len(names)
        assert f"!containers/{name}" in (ROOT / ".dockerignore").read_text()
    if path.name != "Dockerfile":  # which SageMaker runs as root
        assert re.search(r"^USER 10001:10001$", text, re.M)


def test_images_pin_what_everything_else_does() -> None:
    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^\s;]+)", path.read_text(), re.M))

    ours = pins(ROOT / "requirements.lock")
    for name in ("serve.lock", "build.lock", "mlflow.lock"):
        known = {pin.split("==")[0] for pin in ours}
        others = {pin for pin in pins(FOLDER / name) - ours if pin.split("==")[0] in known}
        assert not others, name


def make(folder: Path) -> None:
    code = "import make_secrets, pathlib, sys; make_secrets.write(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True,
        env=os.environ | {"PYTHONPATH": str(FOLDER), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_passwords_are_made_once_and_differ(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make(first)
    made = {path.name: path.read_text() for path in first.iterdir()}
    assert set(made) == {Path(each["file"]).name for each in read()["secrets"].values()}
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    words = [text.strip() for name, text in made.items() if name.endswith("_password")]
    assert len(set(words)) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in words)
    user = json.loads(made["s3_users"])["identities"][0]["credentials"][0]
    assert f"aws_access_key_id={user['accessKey']}\n" in made["s3_credentials"]
    assert f"aws_secret_access_key={user['secretKey']}\n" in made["s3_credentials"]
    make(second)
    assert not {path.read_text() for path in second.iterdir()} & set(made.values())
    (first / "grafana_password").unlink()
    (first / "s3_credentials").unlink()
    make(first)
    again = {path.name: path.read_text() for path in first.iterdir()}
    kept = {name for name in made if again[name] == made[name]}
    assert kept == {"serve_password", "postgres_password"}
    user = json.loads(again["s3_users"])["identities"][0]["credentials"][0]
    assert user["accessKey"] in again["s3_credentials"]
