"""Build the image of `unmask serve` and ask a container of it: `make image-test`.

It runs as it should be run: with a root file system that is read only, without capabilities, and
with a password. Needs what try_image.py needs, and the model that `make repro` made. The image
stays, as unmask-serve:test.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from try_image import ROOT, build, can_build, make_base, podman, say

IMAGE, PORT = "unmask-serve:test", 17860
CLIP = ROOT / "data/sources/talking_heads/bbaf2n.mp4"
PASSWORD = "a-password-of-this-test"
MOST_START_S = 120
# By itself podman asks for larger limits than some machines have.
OPTIONS = ("--ulimit=nofile=8192:8192", "--ulimit=nproc=8192:8192")


def told(*arguments: str) -> str:
    """Return what podman prints."""
    command = ["podman", "--runtime", "runc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def logs(name: str) -> str:
    """Return what a container has written, to whichever of its two outputs."""
    command = ["podman", "--runtime", "runc", "logs", name]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def ask(path: str, body: bytes | None = None, *, password: str | None = PASSWORD) -> bytes:
    """Return what the server answers."""
    asked = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body)
    if password is not None:
        word = base64.b64encode(f"x:{password}".encode()).decode()
        asked.add_header("Authorization", f"Basic {word}")
    with urllib.request.urlopen(asked, timeout=300) as answer:
        content: bytes = answer.read()
    return content


def refusal(path: str) -> int:
    """Return the status by which the server refuses whoever has no password; 200 if it does not."""
    try:
        ask(path, password=None)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def is_ready() -> bool:
    try:
        return bool(json.loads(ask("/readyz", password=None))["ready"])
    except OSError:
        return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a container until it is stopped, or the block ends; yield its name."""
    (folder / "password").write_text(PASSWORD)
    name = f"unmask-serve-test-{os.getpid()}"
    podman(
        "run", "--detach", "--name", name, *OPTIONS, "--read-only", "--cap-drop=all",
        "--security-opt=no-new-privileges",
        f"--publish=127.0.0.1:{PORT}:7860",
        f"--volume={folder / 'password'}:/run/secrets/serve_password:ro", IMAGE,
        "--password-file", "/run/secrets/serve_password", "--log", "json",
    )  # fmt: skip
    try:
        yield name
    finally:
        podman("rm", "--force", "--volumes", name)


def check(name: str) -> None:
    """Ask a container what strangers would, and look at it from inside."""
    began = time.monotonic()
    while not is_ready():
        assert time.monotonic() - began < MOST_START_S, logs(name)
        time.sleep(0.1)
    say(f"ready after {time.monotonic() - began:.1f} s")
    assert refusal("/") == 401
    assert b"Is this face real?" in ask("/")
    row = json.loads(ask(f"/api/predict?name={CLIP.name}", CLIP.read_bytes()))
    assert row["path"] == CLIP.name
    assert 0 <= row["probability"] <= 1, row
    assert row["model"] == json.loads(ask("/api/health", password=None))["model"]
    assert row["file_says"]["credentials"]["state"] == "absent"  # c2pa is there
    say(f"answered: {row['verdict']}, {row['probability']:.3f}")
    words = "id -u; for at in / /opt /usr; do touch $at/x 2>/dev/null && echo wrote $at; done; "
    words += "command -v pip gcc curl; find /scratch -name video; true"
    assert told("exec", name, "sh", "-c", words) == "10001"
    podman("healthcheck", "run", name)
    lines = logs(name).splitlines()
    assert any(json.loads(line).get("event") == "answer" for line in lines if line[:1] == "{"), (
        lines
    )


def stop(name: str) -> None:
    """Stop a container as an orchestrator does."""
    began = time.monotonic()
    podman("stop", "--time", "30", name)
    say(f"stopped in {time.monotonic() - began:.1f} s")
    code = told("inspect", "--format", "{{.State.ExitCode}}", name)
    assert code == "0", f"exit code {code}: {told('logs', name)}"


def main() -> None:
    if not can_build():
        return
    os.chdir(ROOT)
    if not (ROOT / "model/net.onnx").is_file():
        sys.exit("error: asked to pack the model that `make repro` made; there is none. Run it.")
    make_base()
    began = time.monotonic()
    build("serve.Dockerfile", IMAGE)
    say(f"image: {time.monotonic() - began:.0f} s")
    podman("images", IMAGE)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as name:
        check(name)
        stop(name)
    say("passed: a container answered, wrote nothing elsewhere, and ended when it was told to")


if __name__ == "__main__":
    main()
