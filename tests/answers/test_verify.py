"""Pages that were changed, mixed up or never were reports."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from unmask.answers import verify
from unmask.answers.verify import ReportError, Verification
from unmask.errors import UnmaskError
from unmask.runtime.digests import model_digest


@pytest.fixture
def case(tmp_path):
    """A page with the data that verify reads, its video and its model."""
    video, model = tmp_path / "clip.mp4", tmp_path / "model"
    video.write_bytes(b"frames")
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights")
    (model / "checkpoint.json").write_text("{}")
    data = {
        "page_sha256": verify.BLANK,
        "format": verify.FORMAT,
        # A name that looks like the digest's place.
        "video": {
            "name": f'{verify.BLANK}"page_sha256": "' + "1" * 64,
            "sha256": _sha256(b"frames"),
        },
        "answer": {"verdict": "fake", "probability": 0.9, "reason": None},
        "model": {"sha256": model_digest(model)},
    }
    _write(tmp_path / "report.html", data)
    return tmp_path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path, data):
    block = json.dumps(data, indent=1)
    page = f'<h1>café</h1>\n<script type="application/json" id="unmask-report">{block}</script>\n'
    path.write_text(verify.seal(page), encoding="utf-8")


def _check(case) -> Verification:
    return verify.check(case / "report.html", case / "clip.mp4", case / "model")


def _matches(found: Verification) -> dict[str, bool | None]:
    return {check.part: check.matches for check in found.checks}


def test_what_belongs_together_matches(case):
    found = _check(case)
    assert _matches(found) == {"report": True, "file": True, "model": True}
    assert found.exit_code == 0


def test_every_byte_of_the_page_counts(case):
    page = (case / "report.html").read_bytes()
    # Not in the data's frame or its format: then it is no report any more.
    for old in (b"caf", b'"fake"', b"0.9", b'"page_sha256": "', b"</script>\n"):
        at = page.index(old) + len(old) - 1
        if old == b'"page_sha256": "':
            at += 9
        changed = page[:at] + bytes([page[at] ^ 1]) + page[at + 1 :]
        try:
            (case / "report.html").write_bytes(changed)
            found = _check(case)
        except ReportError:
            assert old == b'"fake"'  # the change ended the string
            continue
        assert _matches(found)["report"] is False
        assert found.exit_code == verify.EXIT_CODES["report"]


def test_line_ends_that_mail_changed_are_seen(case):
    page = (case / "report.html").read_bytes()
    (case / "report.html").write_bytes(page.replace(b"\n", b"\r\n"))
    assert _matches(_check(case))["report"] is False


def test_another_file_and_another_model_are_told_apart(case):
    (case / "clip.mp4").write_bytes(b"other frames")
    assert _matches(_check(case)) == {"report": True, "file": False, "model": True}
    assert _check(case).exit_code == verify.EXIT_CODES["file"]
    (case / "clip.mp4").write_bytes(b"frames")
    (case / "model/checkpoint.json").write_text('{"temperature": 9}')
    assert _matches(_check(case)) == {"report": True, "file": True, "model": False}
    assert _check(case).exit_code == verify.EXIT_CODES["model"]


def test_a_net_that_is_not_the_models_own_is_another_model(case):
    """Of the net, the model's digest has the digest alone that the settings give it."""
    model = case / "model"
    (model / "net.onnx").write_bytes(b"net")
    assert _matches(_check(case))["model"] is True  # the settings name no net: it is not read
    own = {"sha256": _sha256(b"net"), "weights_sha256": _sha256(b"weights")}
    (model / "checkpoint.json").write_text(json.dumps({"net": own}))
    page = (case / "report.html").read_text()
    data = json.loads(page[page.index("{") : page.rindex("}") + 1])
    data |= {"page_sha256": verify.BLANK, "model": {"sha256": model_digest(model)}}
    data["video"]["name"] = "clip.mp4"
    _write(case / "report.html", data)
    assert _matches(_check(case)) == {"report": True, "file": True, "model": True}
    (model / "net.onnx").write_bytes(b"another")
    found = _check(case)
    assert _matches(found) == {"report": True, "file": True, "model": False}
    assert found.exit_code == verify.EXIT_CODES["model"]
    assert "net.onnx should have the sha256" in found.checks[2].detail


def test_what_was_not_given_is_not_compared(case):
    found = verify.check(case / "report.html", None, None)
    assert _matches(found) == {"report": True, "file": None, "model": None}
    assert found.exit_code == 0


def test_a_missing_video_or_model_is_an_error_and_no_mismatch(case):
    with pytest.raises(verify.UnmaskError, match=r"gone\.mp4"):
        verify.check(case / "report.html", case / "gone.mp4", None)
    with pytest.raises(verify.UnmaskError, match=r"weights\.safetensors"):
        verify.check(case / "report.html", None, case)


@pytest.mark.timeout(10)
def test_a_video_that_is_a_pipe_or_endless_is_an_error(case):
    os.mkfifo(case / "pipe")
    for video in (case / "pipe", Path("/dev/zero")):
        with pytest.raises(UnmaskError, match="no regular file"):
            verify.check(case / "report.html", video, None)


@pytest.mark.parametrize(
    "page",
    [
        "", "no page", '<script type="application/json" id="unmask-report">{</script>',
        '<script type="application/json" id="unmask-report">[1]</script>',
        '<script type="application/json" id="unmask-report">{"format": 99}</script>',
        '<script type="application/json" id="unmask-report">{"format": 1}</script>',
        '<script type="application/json" id="unmask-report">{}</script>' * 2,
        '<script type="application/json" id="unmask-report">' + "[" * 9999 + "</script>",
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(tmp_path, page):
    (tmp_path / "page.html").write_text(page)
    with pytest.raises(ReportError, match=r"page\.html"):
        verify.check(tmp_path / "page.html", None, None)
    with pytest.raises(ReportError, match="gone"):
        verify.check(tmp_path / "gone.html", None, None)


def test_a_hostile_page_takes_time_in_proportion_to_its_size(tmp_path):
    opening = '<script type="application/json" id="unmask-report">'
    for page in (opening * 200_000, opening + '"page_sha256": "' * 600_000):  # 10 MB each
        (tmp_path / "page.html").write_text(page)
        started_s = time.process_time()
        with pytest.raises(ReportError):
            verify.check(tmp_path / "page.html", None, None)
        assert time.process_time() - started_s < 60  # it was hours


def test_pipes_and_endless_files_are_no_reports(tmp_path):
    os.mkfifo(tmp_path / "pipe.html")
    for path in (tmp_path / "pipe.html", Path("/dev/zero")):
        with pytest.raises(ReportError, match="no regular file"):
            verify.check(path, None, None)
    with (tmp_path / "large.html").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(ReportError, match="more than"):
        verify.check(tmp_path / "large.html", None, None)


ESCAPES = "\x1b[2J\x1b[Hreport  matches"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("video", "sha256"), ESCAPES),
        (("video", "sha256"), "0" * 64 + "\n"),
        (("model", "sha256"), ESCAPES),
        (("model", "sha256"), None),
        (("answer", "verdict"), ESCAPES),
        (("answer", "reason"), ESCAPES),
        (("answer", "probability"), float("nan")),
        (("answer", "probability"), ESCAPES),
        (("answer", "probability"), True),
        (("answer", "probability"), 2),
        (("format",), ESCAPES),
        (("answer",), [ESCAPES]),
    ],
)
def test_what_a_page_claims_has_its_type_or_is_no_report(case, place, value):
    from click.testing import CliRunner

    from unmask.cli.main import main

    text = (case / "report.html").read_text()
    data = json.loads(text.partition('unmask-report">')[2].partition("</script>")[0])
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    data["page_sha256"] = verify.BLANK
    _write(case / "report.html", data)
    words = ["verify", str(case / "report.html"), str(case / "clip.mp4")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "damaged" in done.output or "format" in done.output
    assert "\x1b" not in done.output
    assert "matches" not in done.output.replace(r"\x1b[Hreport  matches", "")
