"""Install the wheel into an empty environment and ask it about a clip, offline: `make wheel-test`.

Everything happens in a temporary folder that knows nothing of this checkout. The other packages are
those that requirements.lock pins, from uv's cache where it has them. Connections are refused: by a
network namespace of its own where this user may make one, and by a guard in each Python process,
which also tells of the attempt.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST, PARTS = ROOT / "dist", Path(__file__).parent
CLIP = ROOT / "data/sources/talking_heads"
MOST_MB = 600  # on disk; docs/install.md has the table
# What a plain installation must not bring, by the beginnings of names.
UNWANTED = ("torch", "nvidia", "lightning", "triton", "timm", "mlflow", "dvc", "boto", "gradio")
# What a wheel may hold besides Python.
KINDS = re.compile(
    r"unmask/(.*\.py|.*\.html|data/protocols/official/[\w.-]+\.yaml|faces/mtcnn/\w+\.onnx"
    r"|demonstration/(checkpoint\.json|MODEL_CARD\.md|history\.csv|net\.onnx|weights\.safetensors))"
    r"|unmask-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/(LICENSE|NOTICE))"
)
MUST = ("faces/mtcnn/proposals.onnx", "answers/html_report.html", "demonstration/net.onnx")
# In the environment's site-packages: Python imports it in each process.
GUARD = """
import os, sys
def refuse(event, args):
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    address = args[1] if event == "socket.connect" else args[0]
    if isinstance(address, tuple):
        address = address[0]
    elif event == "socket.connect":
        return  # a socket of this machine's
    if address not in ("127.0.0.1", "::1", "localhost", None):
        with open(os.environ["UNMASK_ATTEMPTS"], "a") as told:
            told.write(f"{event} {address}\\n")
        raise OSError(f"no network: {address}")
sys.addaudithook(refuse)
"""


def say(text: str) -> None:
    sys.stderr.write(f"wheel-test: {text}\n")


def check_contents(wheel: Path, sdist: Path) -> None:
    """Fail if the two hold what they should not, or lack what they should hold."""
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        assert not (odd := [name for name in names if not KINDS.fullmatch(name)]), odd
        assert all(f"unmask/{name}" in names for name in MUST)
        contents = {name: held.read(name) for name in names}
    with tarfile.open(sdist) as packed:
        found = {each.name.split("/", 1)[1]: each for each in packed if each.isfile()}
        top = {"hatch_build.py", "pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "NOTICE"}
        odd = [
            name for name in found
            if name not in {*top, ".gitignore"} and not KINDS.fullmatch(name.removeprefix("src/"))
        ]  # fmt: skip
        assert not odd, odd
        for name, each in found.items():
            file = packed.extractfile(each)
            assert file
            contents[name] = file.read()
    # Where it was built is nobody's business; a key of AWS's or a private one would be worse.
    secret = re.compile(rb"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY")
    for name, content in contents.items():
        for path in {ROOT, Path.home()} - {Path("/")}:
            told = re.search(re.escape(os.fsencode(path)) + rb"/\w", content)
            assert not told, f"{name} names {path}"
        assert not secret.search(content), f"{name} holds a secret"


def install(wheel: Path, place: Path) -> Path:
    """Return the folder of programs of a new environment that holds the wheel."""
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", place / "bin/python", "--constraint",
         ROOT / "requirements.lock", wheel], check=True,
    )  # fmt: skip
    [packages] = place.glob("lib/python*/site-packages")
    names = sorted(path.name for path in packages.iterdir())
    assert not (odd := [name for name in names if name.startswith(UNWANTED)]), odd
    megabytes = sum(p.lstat().st_blocks * 512 for p in place.rglob("*")) / 2**20
    say(f"{len(list(packages.glob('*.dist-info')))} packages, {megabytes:.0f} MB on disk")
    assert megabytes < MOST_MB
    (packages / "sitecustomize.py").write_text(GUARD)
    return place / "bin"


def offline() -> list[str]:
    """Return what to put before a command so that it has no network; nothing if that can't be."""
    prefix = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare"):
        tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return prefix
    say("no network namespace can be made here: the guard alone refuses connections")
    return []


def ask(
    *command: str | Path, within: Path, code: int = 0, env: dict[str, str] | None = None
) -> str:
    """Run a command in a folder; return what it printed."""
    done = subprocess.run(
        command, cwd=within, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_commands(python: Path, within: Path, env: dict[str, str]) -> None:
    """Fail if a command has no help here, or does not say which extra it lacks."""
    script = f"""
import sys
sys.path.append({str(PARTS)!r})
from click.testing import CliRunner
from commands import COMMANDS, OPTIONS, leaves
from unmask.cli.main import main
from unmask.extras import EXTRAS

assert sorted(leaves(main)) == sorted(COMMANDS)
for name, (arguments, extras) in COMMANDS.items():
    told = CliRunner().invoke(main, [*name.split(), "--help"])
    assert told.exit_code == 0, (name, told.output)
    if extras:
        told = CliRunner().invoke(main, [*name.split(), *arguments])
        [line] = told.output.splitlines()
        assert told.exit_code == 1, (name, told.output)
        assert line.startswith(f"Error: unmask {{name}} needs "), line
        assert line.endswith(f': pip install "unmask[{{",".join(extras)}}]"'), line
    elif name not in ("predict", "serve"):  # tried by themselves
        told = CliRunner().invoke(main, [*name.split(), *arguments])
        assert isinstance(told.exception, (SystemExit, type(None))), (name, told.exception)
open("mlflow.db", "w").close()
for typed, extra in OPTIONS.items():
    told = CliRunner().invoke(main, typed.split())
    library = EXTRAS[extra][0]
    said = f'Error: unmask predict needs {{library}}: pip install "unmask[{{extra}}]"\\n'
    assert (told.exit_code, told.output) == (1, said), told.output
assert "torch" not in sys.modules
"""
    ask(python, "-P", "-c", script, within=within, env=env)


def check_server(unmask: Path, within: Path, env: dict[str, str], clip: Path) -> dict[str, object]:
    """Return what the API says of the clip."""
    server = subprocess.Popen(
        [unmask, "serve", "--port", "0"], cwd=within, env=env, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        with urllib.request.urlopen(f"{address}/", timeout=60) as page:
            assert b"api/predict" in page.read()
        asked = urllib.request.Request(
            f"{address}/api/predict?name={clip.name}", clip.read_bytes(),
            {"Content-Type": "application/octet-stream"},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=200) as answer:
            row: dict[str, object] = json.load(answer)
            return row
    finally:
        server.terminate()
        assert server.wait(60) == 0


def main() -> None:
    began = time.monotonic()
    [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    check_contents(wheel, sdist)
    with tempfile.TemporaryDirectory(prefix="unmask-wheel-") as temporary:
        folder = Path(temporary)
        programs, empty, attempts = folder / "venv", folder / "empty", folder / "attempts"
        binaries = install(wheel, programs)
        empty.mkdir()
        clip = empty / "clip.mp4"
        shutil.copyfile(min(CLIP.glob("*.mp4")), clip)
        env = {
            "PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8",
            "UNMASK_ATTEMPTS": str(attempts), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        say(f"installed after {time.monotonic() - began:.0f} s")
        # The process is the child of what makes its namespace, and dies with it.
        unmask = [*offline(), binaries / "unmask"]
        printed = ask(
            *unmask, "predict", clip.name, "--json", "--report", "clip.html",
            within=empty, code=4, env=env,
        )  # fmt: skip
        row = json.loads(printed)
        assert "not_calibrated" in row["doubts"], row
        ask(
            *unmask, "verify", "clip.html", clip.name, "--model", "demonstration",
            within=empty, env=env,
        )  # fmt: skip
        here = ask(
            Path(sys.executable).parent / "unmask", "predict", clip, "--json", "--model",
            ROOT / "model", within=ROOT, code=4,
        )  # fmt: skip
        same = ("probability", "faces", "worst", "sha256", "model", "version")
        assert {name: row[name] for name in same} == {n: json.loads(here)[n] for n in same}
        served = check_server(binaries / "unmask", empty, env, clip)
        assert served["probability"] == row["probability"]
        check_commands(binaries / "python", empty, env)
        assert not attempts.exists(), f"connections were tried: {attempts.read_text()}"
    say(f"answered {clip.name}: {row['probability']:.3f}; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
