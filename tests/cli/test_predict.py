"""What `unmask predict` is asked, prints, writes and ends with: real videos through a real net."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from fake_hub import COMMIT, Hub, ask_only, serve_hub
from painted import STILLS
from promised import save_promised
from small_project import swaying

from unmask import params
from unmask.cli.main import main
from unmask.models import backbones, checkpoint
from unmask.scoring.verdicts import Limits
from unmask.video.encode import write_video

ROOT = Path(__file__).parents[2]
ANYTHING = {
    "min_face_px": 0.0, "min_track_s": 0.0, "min_sharpness": 0.0, "max_sharpness": 1e9,
    "min_brightness": 0.0, "max_brightness": 1.0, "max_error_ratio": 0.5, "reals": 9, "fakes": 9,
    "tracks": 18,
}  # fmt: skip


def write_model(folder, *, fake_from=None, real_to=None):
    """Write an untrained model that calls every face fake, or real, or neither."""
    settings = params.load(ROOT / "params.yaml")
    clips = settings.clips.model_copy(update={"side_px": 64, "max_per_track": 2})
    torch.manual_seed(1)
    net = backbones.build(settings.model.backbone, dropout=0.0)
    limits = Limits(fake_from=fake_from, real_to=real_to, **ANYTHING)
    made = checkpoint.Checkpoint(settings.faces, clips, settings.model, 1.0, limits, run_key="key")
    save_promised(folder, net, made)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "fake", fake_from=0.0)
    write_model(folder / "real", real_to=1.0)
    write_model(folder / "neither")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A clip of a real face that sways."""
    import cv2

    path = tmp_path_factory.mktemp("video") / "face.mp4"
    still = cv2.imread(str(sorted(STILLS.glob("*_neutral.jpg"))[0]), cv2.IMREAD_COLOR_RGB)
    write_video(path, swaying([cv2.resize(still, (256, 256))]), rate_fps=25.0, crf=20)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copy(video, path, mark=b""):
    """Copy the video, with some bytes behind its end that make it another file."""
    path.write_bytes(video.read_bytes() + mark)
    return path


def predict(*arguments, stdin=b""):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], input=stdin)


def command(*arguments):
    return [sys.executable, "-m", "unmask", "predict", *map(str, arguments)]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}


def rows_of(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


# ---------------------------------------------------------------- before any work


MISTAKES = [
    ([], 2, "Missing PATHS"),
    (["a.mp4", "--again"], 2, "--again is for --out"),
    (["a.mp4", "--out", "answers.txt"], 2, "Add --json or --csv"),
    (["a.mp4", "--out", "answers.csv", "--json"], 2, "--json clashes"),
    (["a.mp4", "b.mp4", "--report", "page.html"], 2, "2 videos were named"),
    (["a.mp4", "--annotate", "a.mp4"], 1, "a video to be read"),
    (["a.mp4", "--annotate", "seen.mov"], 2, "ends in .mp4"),
    (["a.mp4", "--report", "notes.txt"], 2, "what is written ends in .html"),
    (["a.mp4", "--report", "notes.html"], 1, "a file that unmask did not write is there"),
    (["a.mp4", "--annotate", "others"], 1, "a file that unmask did not write is there"),
    (["a.mp4", "--sign", "key.pem"], 2, "add --report"),
    (["a.mp4", "--pdf"], 2, "add --report"),
    (["a.mp4", "--certificate", "chain.pem"], 2, "add that"),
    (["a.mp4", "--annotate", "b.mp4", "--certificate", "chain.pem"], 2, "belong together"),
    (["a.mp4", "--trust", "anchors.pem", "--csv"], 2, "add one of them"),
    (["a.mp4", "--trust", "gone.pem", "--json"], 1, "asked for certificates to trust"),
    (["a.mp4", "--trust", "notes.txt", "--json"], 1, "asked for certificates to trust"),
    (["a.mp4", "--index", "page.htm"], 2, "does not end in .html"),
    (["a.mp4", "--index", "notes.html"], 1, "a file that unmask did not write is there"),
    (["a.mp4", "--report", "a.html", "--index", "./a.html"], 2, "is the report of a video"),
    (["a.mp4", "--report", "a.html", "--sign", "gone.pem"], 1, "asked for a private key"),
    (["a.mp4", "--report", "a.html", "--sign", "notes.txt"], 1, "no key that can be read"),
    (["-", "--model", "."], 1, "the list is empty"),
    (["empty"], 1, "no file in it ends like one"),
    (["a.mp4"], 1, "make repro"),
    (["a.mp4", "--model", "models:/unmask@champion"], 1, "MLFLOW_TRACKING_URI is not set"),
    (["a.mp4", "--rev", "HEAD"], 1, "git repository"),
]

# One process for all: each is given a folder of its own, and what it said is written down.
SAY = """
import contextlib, io, json, os, sys
from unmask.cli.main import main
told = []
for number, arguments in enumerate(json.loads(sys.argv[1])):
    os.chdir(os.path.join(sys.argv[2], str(number)))
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["predict", *arguments])
        except SystemExit as end:
            code = end.code
    told.append([code, out.getvalue(), err.getvalue(), "torch" in sys.modules])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Return what each mistake led to (exit code, stdout, stderr, was torch there), and where."""
    root = tmp_path_factory.mktemp("mistaken")
    folders = [root / str(number) for number in range(len(MISTAKES))]
    for each in folders:
        for name in ("empty", "others"):
            (each / name).mkdir(parents=True)
        for name in ("notes.txt", "notes.html", "others/a.mp4"):
            (each / name).write_text("mine")
    variables = environment()
    variables.pop("MLFLOW_TRACKING_URI", None)
    asked = json.dumps([arguments for arguments, _, _ in MISTAKES])
    done = subprocess.run(
        [sys.executable, "-c", SAY, asked, str(root)], capture_output=True, text=True, input="",
        env=variables, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(zip(json.loads(done.stdout), folders, strict=True))


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_is_told_before_torch_is_imported(mistaken, number):
    _, code, said = MISTAKES[number]
    (ended, stdout, stderr, has_torch), place = mistaken[number]
    assert (ended, stdout) == (code, "")
    assert said in " ".join(stderr.split())
    assert not has_torch
    assert "Traceback" not in stderr
    assert (place / "notes.html").read_text() == (place / "others/a.mp4").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"]])
def test_help_imports_none_of_the_libraries_that_take_long(arguments):
    program = (
        "import atexit, runpy, sys; "
        "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules})); "
        f"sys.argv = {['unmask', *arguments]}; "
        "runpy.run_module('unmask', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    imported = set(ran.stdout.splitlines()[-1].split())
    own = {"unmask", "click", "yaml", "pydantic", "pydantic_core", "annotated_types"}
    typing = {"typing_extensions", "typing_inspection"}
    assert {"unmask", "click"} <= imported
    assert imported & packages_distributions().keys() - {"_distutils_hack"} <= own | typing


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(("model", "code"), [("fake", 3), ("real", 0), ("neither", 4)])
def test_the_exit_code_is_the_verdict(models, video, model, code):
    result = predict(video, "--model", models / model, "--workers", 1)
    verdict = "inconclusive" if model == "neither" else model
    assert result.exit_code == code
    [line] = result.stdout.splitlines()
    assert line.split()[0] == verdict
    assert f"1 video: 1 {verdict}" in result.stderr


def test_every_input_has_a_row_in_order_and_nothing_hangs(folder, models, video):
    odd = os.fsdecode(b"\xff\n.mp4")
    copy(video, folder / odd)
    copy(video, folder / "-x.mp4", b"x")
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("no video")
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.mp4")
    asked = [
        "pipe.mp4", "/dev/zero", "socket.mp4", "empty.mp4", "text.mp4", "gone.mp4", "-x.mp4", odd,
    ]  # fmt: skip
    listed = b"\0".join(os.fsencode(name) for name in asked)
    before = time.monotonic()
    result = predict("-", "--json", "--model", models / "real", "--workers", 2, stdin=listed)
    assert time.monotonic() - before < 120
    rows = rows_of(result.stdout)
    assert [row["path"] for row in rows] == asked
    assert [row["reason"] for row in rows] == [
        "not_a_video", "not_a_video", "not_a_video", "empty", "not_a_video", "missing", None, None,
    ]  # fmt: skip
    assert "a pipe, a socket or a device" in rows[0]["detail"]
    assert rows[6]["probability"] == rows[7]["probability"]
    assert [len(row["faces"]) for row in rows[5:]] == [0, 1, 1]
    assert result.exit_code == 4


def test_what_is_in_the_file_is_answered_without_torch(folder, models, video):
    for name in ("a.mp4", "b.mp4"):
        copy(video, folder / name, name.encode())
    arguments = ("*.mp4", "wall.mp4", "--model", models / "fake", "--out", "answers.csv")
    first = predict(*arguments)
    assert first.exit_code == 3
    with Path("answers.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted((row["path"], row["verdict"]) for row in rows) == [
        ("a.mp4", "fake"), ("b.mp4", "fake"), ("wall.mp4", "inconclusive"),
    ]  # fmt: skip
    # Without weights that can be read nothing could be scored.
    script = (
        "import sys\n"
        "from unmask.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules"
    )
    again = subprocess.run(
        [sys.executable, "-c", script, "predict", "a.mp4", "b.mp4", *map(str, arguments[2:])],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert (again.returncode, again.stdout.splitlines()) == (3, first.stdout.splitlines()[:2])
    other = predict("a.mp4", "--model", models / "real", "--out", "answers.csv")
    assert other.exit_code == 1
    assert "--again" in other.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_it_keeps_what_was_answered_and_no_faces(folder, models, video, sent, code):
    scratch = folder / "tmp"
    scratch.mkdir()
    for number in range(5):
        copy(video, folder / f"clip{number}.mp4", b"%d" % number)
    asked = command(".", "--model", models / "real", "--out", "answers.jsonl", "--workers", 1)
    running = subprocess.Popen(
        asked, env=environment() | {"TMPDIR": str(scratch)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline().startswith("real")
    if sent is signal.SIGINT:
        os.killpg(running.pid, sent)  # as a terminal does: the workers hear it too
    else:
        running.terminate()
    _, words = running.communicate(timeout=60)
    assert running.returncode == code, words
    assert "Traceback" not in words
    assert ("the same command goes on" in words) == (sent is signal.SIGINT)
    assert list(scratch.iterdir()) == []
    kept = Path("answers.jsonl").read_bytes()
    assert 1 <= kept.count(b"\n") < 5
    done = subprocess.run(asked, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0
    whole = Path("answers.jsonl").read_bytes()
    assert whole.startswith(kept)
    assert whole.count(b"\n") == 5


@pytest.mark.usefixtures("folder")
def test_a_reader_that_leaves_early_is_no_error_message(models):
    for number in range(60):
        Path(f"{number}.mp4").touch()
    typed = f"{' '.join(command('.', '--json', '--model', models / 'real'))} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", typed], capture_output=True, text=True, env=environment(), check=False
    )
    assert [row["path"] for row in rows_of(done.stdout)] == ["0.mp4"]
    assert done.stderr == ""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_full_disk_behind_stdout_is_one_line(models, form):
    Path("empty.mp4").touch()
    asked = command("empty.mp4", "--model", models / "real", *([form] if form else []))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            asked, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("folder")
def test_a_terminal_gets_a_bar_and_whole_lines_beside_it(models):
    Path("empty.mp4").touch()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    asked = command("empty.mp4", "gone.mp4", "--model", models / "real", "--csv")
    done = subprocess.run(
        asked, env=environment(), stdout=subprocess.PIPE, stderr=theirs, check=False
    )
    os.close(theirs)
    words = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "predict: 100%" in words
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["reason"] for row in rows] == ["empty", "missing"]


# ---------------------------------------------------------------- what is made besides


def test_a_report_and_an_annotated_clip_are_made_and_the_report_verified(folder, models, video):
    copy(video, folder / "clip.mp4")
    result = predict(
        "clip.mp4", "gone.mp4", "--model", models / "fake", "--workers", 1,
        "--report", "pages", "--annotate", "seen",
    )  # fmt: skip
    assert result.exit_code == 3, result.output
    assert {path.name for path in Path("pages").iterdir()} == {"clip.html", "gone.html"}
    assert [path.name for path in Path("seen").iterdir()] == ["clip.mp4"]
    assert "gone.mp4 was not made" in result.stderr
    told = re.findall(
        r"<code>unmask verify|<code>(.*?)</code>", Path("pages/clip.html").read_text()
    )
    known = {name for option in main.commands["verify"].params for name in option.opts}
    asked = {word for words in told for word in words.split() if word.startswith("--")}
    assert {"--score", "--model", "--key"} == asked <= known

    def verify(*arguments):
        return CliRunner().invoke(main, ["verify", "pages/clip.html", *map(str, arguments)])

    done = verify("clip.mp4", "--model", models / "fake")
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.output.splitlines()] == [
        ["report", "matches"], ["file", "matches"], ["credentials", "matches"],
        ["model", "matches"],
    ]  # fmt: skip
    again = ("clip.mp4", "--model", models / "fake", "--report", "pages", "--annotate", "seen")
    assert predict(*again).exit_code == 3  # what it wrote itself it may write anew
    assert verify("clip.mp4", "--model", models / "real").exit_code == 5
    assert verify("seen/clip.mp4").exit_code == 4
    assert verify("--score").exit_code == 2


def test_reports_are_signed_and_the_passphrase_reaches_no_other_process(
    folder, models, video, monkeypatch
):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(b"correct horse")
    Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    Path("public.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    copy(video, folder / "clip.mp4")
    words = (
        "clip.mp4", "gone.mp4", "--model", models / "fake", "--workers", 1, "--report", "pages",
        "--sign", "key.pem",
    )  # fmt: skip
    refused = predict(*words)
    assert refused.exit_code == 1
    assert "UNMASK_SIGN_PASSPHRASE" in refused.output
    monkeypatch.setenv("UNMASK_SIGN_PASSPHRASE", "correct horse")
    done = predict(*words)
    assert done.exit_code == 3, done.output
    assert "UNMASK_SIGN_PASSPHRASE" not in os.environ  # which child processes inherit
    assert "correct horse" not in done.output
    assert re.search(r"Signed by key [0-9A-F]{8,16}\. For minisign -P: RW\S{54}", done.stderr)
    assert {path.name for path in Path("pages").iterdir()} == {
        "clip.html", "clip.html.minisig", "gone.html", "gone.html.minisig",
    }  # fmt: skip
    for name in ("clip", "gone"):
        asked = ["verify", f"pages/{name}.html", "--key", "public.pem"]
        assert CliRunner().invoke(main, asked).exit_code == 0
    page = Path("pages/clip.html")
    page.write_bytes(page.read_bytes().replace(b"Likely", b"Surely", 1))
    asked = ["verify", "pages/clip.html", "--key", "public.pem"]
    assert CliRunner().invoke(main, asked).exit_code == 7
    page.unlink()
    Path("pages/clip.html.minisig").write_text("a note of mine")
    monkeypatch.setenv("UNMASK_SIGN_PASSPHRASE", "correct horse")
    refused = predict(*words)
    assert refused.exit_code == 1
    assert "a file that unmask did not write is there" in refused.output


def test_an_index_links_to_reports_and_is_made_of_kept_answers_without_scoring(
    folder, models, video
):
    copy(video, folder / "clip.mp4")
    words = ("clip.mp4", "gone.mp4", "--workers", 1, "--index", "index.html")
    made = predict(*words, "--model", models / "fake", "--report", "pages", "--out", "a.csv")
    assert made.exit_code == 3, made.output
    page = Path("index.html").read_text(encoding="utf-8")
    assert 'href="./pages/clip.html"' in page
    assert 'href="./pages/gone.html"' in page
    assert page.count("data:image/jpeg;base64,") == 1
    rows = Path("a.csv").read_bytes()
    assert predict(*words, "--model", models / "fake", "--out", "a.csv").exit_code == 3
    assert Path("a.csv").read_bytes() == rows
    kept = Path("index.html").read_text(encoding="utf-8")
    assert "href=" not in kept
    assert kept.count("data:image/jpeg;base64,") == 1
    for each in (page, kept):
        assert re.findall(r'class="card is-(\w+)', each) == ["fake", "none"]
        assert "clip.mp4" in each
        assert "missing" in each


@pytest.mark.usefixtures("folder")
def test_what_a_file_says_of_itself_stands_beside_the_verdict(models, video):
    from signed_files import Authority

    authority = Authority()
    Path("trust.pem").write_bytes(authority.pem)
    plain = video.read_bytes()
    signed = authority.sign(plain, "video/mp4")
    at = signed.index(b"mdat") + 40
    Path("signed.mp4").write_bytes(signed)
    Path("changed.mp4").write_bytes(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    Path("plain.mp4").write_bytes(plain)
    names = ("signed.mp4", "changed.mp4", "plain.mp4", "gone.mp4")
    done = predict(
        *names, "--model", models / "fake", "--workers", 1, "--json", "--report", "pages",
        "--trust", "trust.pem",
    )  # fmt: skip
    rows = {row["path"]: row for row in rows_of(done.stdout)}
    said = {name: rows[name]["file_says"]["credentials"] for name in names}
    assert [said[name]["state"] for name in names] == [
        "trusted", "invalid", "absent", "unreadable",
    ]  # fmt: skip
    assert rows["signed.mp4"]["verdict"] == rows["plain.mp4"]["verdict"] == "fake"
    assert rows["signed.mp4"]["probability"] == rows["plain.mp4"]["probability"]
    assert said["changed.mp4"]["faults"] == ["assertion.bmffHash.mismatch"]
    page = Path("pages/signed.html").read_text(encoding="utf-8")
    assert "Ann&lt;b&gt; Signer, Newsroom&lt;script&gt;" in page
    assert "c2pa.created, trainedAlgorithmicMedia, Painter&lt;i&gt; 2" in page
    assert "leads to one of the list" in " ".join(page.split())
    for video_name, trust, codes in (
        ("signed.mp4", ("--trust", "trust.pem"), (0, "matches")),
        ("signed.mp4", (), (0, "not")),
        ("changed.mp4", (), (4, "DIFFERS")),
    ):
        checked = CliRunner().invoke(main, ["verify", "pages/signed.html", video_name, *trust])
        [line] = [each for each in checked.output.splitlines() if each.startswith("credentials")]
        assert (checked.exit_code, line.split()[1]) == codes, checked.output
    Path("trust.pem").write_bytes(Authority().pem)
    other = ["verify", "pages/signed.html", "signed.mp4", "--trust", "trust.pem"]
    assert CliRunner().invoke(main, other).exit_code == 8
    assert "do not hold" in Path("pages/changed.html").read_text(encoding="utf-8")
    assert "nothing follows from this" in Path("pages/plain.html").read_text(encoding="utf-8")
    verified = CliRunner().invoke(main, ["verify", "pages/signed.html", "signed.mp4"])
    assert verified.exit_code == 0, verified.output


# ---------------------------------------------------------------- a model of the Hub


def test_a_model_of_the_hub_stands_in_answers_and_reports_by_its_commit(
    models, video, folder, monkeypatch, caplog
):
    files = {
        "README.md": ROOT / "README.md",
        **{path.name: path for path in (models / "fake").iterdir() if path.is_file()},
    }
    source = f"hf:ada/detector@{COMMIT}"
    words = ["predict", str(video), "--model", "hf:ada/detector", "--workers", "1"]
    with serve_hub(Hub({"ada/detector": files})) as hub:
        ask_only(hub, folder / "cache", monkeypatch)
        told = CliRunner().invoke(main, [*words, "--json"])
    assert told.exit_code == 3, told.output
    row = json.loads(told.stdout.splitlines()[0])
    assert row["model_source"] == source
    # The Hub may not be asked: what was fetched answers, and the page says the same.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told = CliRunner().invoke(main, [*words, "--report", "page.html", "--out", "answers.jsonl"])
    assert told.exit_code == 3, told.output
    assert f"commit {COMMIT}, fetched before" in caplog.text
    page = Path("page.html").read_text()
    assert f"<td>{source}</td>" in page
    assert json.loads(Path("answers.jsonl").read_text())["model_source"] == source
    unasked = CliRunner().invoke(main, ["verify", "page.html", str(video)])
    assert f"the report names {source}" in unasked.stdout
    again = CliRunner().invoke(main, ["verify", "page.html", str(video), "--model", source])
    assert again.exit_code == 0, again.output
    # Of the folder itself, where it came from is not known.
    told = CliRunner().invoke(
        main, ["predict", str(video), "--model", str(models / "fake"), "--json"]
    )
    assert "model_source" not in json.loads(told.stdout.splitlines()[0])
