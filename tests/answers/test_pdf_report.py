"""Reports as PDF: by a real browser; and what is said where there is none, or it fails."""

import hashlib
import os
import re
import shutil
import socket
import sys

import psutil
import pytest
from waiting import wait_until

from unmask.answers import pdf_report, verify
from unmask.answers.pdf_report import PrintError, find_browser, print_page, printed_digest

A4 = (595, 842)  # in points of 1/72 inch: ISO 216


@pytest.fixture
def browser():
    try:
        return find_browser(os.environ)
    except PrintError:
        pytest.skip("NO BROWSER: found no Chromium; `apt-get install chromium` tests printing")


def stand_in(folder, script):
    """Write a program that is called in a browser's place."""
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_page_is_printed_on_a4_without_the_network(tmp_path, browser):
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outside.setblocking(False)
        address = f"http://127.0.0.1:{outside.getsockname()[1]}/a.png"
        page = tmp_path / "a page's <name> #1.html"
        page.write_text(
            "<style>@page { size: A4 } div { break-before: page }</style>"
            f"<img src={address}><p>one</p><div>two</div><div>three</div>"
        )
        out = tmp_path / "out.pdf"
        print_page(page, out, browser)
        with pytest.raises(BlockingIOError):
            outside.accept()  # nobody knocked
    content = out.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 3
    sides = re.search(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert tuple(round(float(side)) for side in sides.groups()) == A4
    digest = hashlib.sha256(page.read_bytes()).hexdigest()
    assert printed_digest(content) == digest
    assert pdf_report.is_print(out)
    with pytest.raises(verify.ReportError, match=f"its print.*{digest}"):
        verify.check(out, None, None)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([page.name, "out.pdf"])


def test_only_a_print_of_ours_is_one(tmp_path):
    (tmp_path / "other.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    (tmp_path / "text.pdf").write_bytes(b"% unmask report of sha256 " + b"1" * 64 + b"\n")
    assert not any(map(pdf_report.is_print, (*tmp_path.iterdir(), tmp_path, tmp_path / "gone")))


def test_without_a_browser_one_line_says_what_to_install(tmp_path):
    with pytest.raises(PrintError, match="apt-get install chromium") as raised:
        find_browser({"PATH": str(tmp_path)})
    assert "\n" not in str(raised.value)
    with pytest.raises(PrintError, match="CHROME_PATH=/gone/chrome; no program is there"):
        find_browser({"PATH": str(tmp_path), "CHROME_PATH": "/gone/chrome"})


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_the_browser_that_is_named_comes_before_those_on_path(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    first, named = stand_in(tmp_path, "exit 0"), stand_in(other, "exit 0")
    assert find_browser({"PATH": str(tmp_path)}) == first
    assert find_browser({"PATH": str(tmp_path), "CHROME_PATH": str(named)}) == named


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_browser_that_fails_is_a_line_with_its_last_words(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<p>")
    failing = stand_in(tmp_path, "echo first >&2; echo no display >&2; exit 3")
    with pytest.raises(PrintError, match=r"found no PDF\. It said: no display"):
        print_page(page, tmp_path / "out.pdf", failing)
    assert not (tmp_path / "out.pdf").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_browser_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf_report, "_MOST_S", 1.0)
    page = tmp_path / "page.html"
    page.write_text("<p>")
    sleep = shutil.which("sleep")
    hanging = stand_in(tmp_path, f"{sleep} 86399 & {sleep} 86399")
    with pytest.raises(PrintError, match="none within 1 s"):
        print_page(page, tmp_path / "out.pdf", hanging)

    def alive():
        return [each for each in psutil.process_iter(["cmdline"])
                if each.info["cmdline"] and "86399" in each.info["cmdline"]
                and each.status() != psutil.STATUS_ZOMBIE]  # fmt: skip

    wait_until(lambda: not alive())
