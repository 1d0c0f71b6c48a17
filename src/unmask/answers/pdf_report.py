"""A report as a PDF: the same page, printed by a browser that is installed here."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from unmask.errors import UnmaskError
from unmask.runtime.disk import read_regular, write_atomically
from unmask.runtime.scratch import private_folder

VARIABLE = "CHROME_PATH"  # which browser to take
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
          "microsoft-edge")  # fmt: skip
_ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
_MOST_S = 120.0
_MOST_BYTES = 2**28
# In a line behind the end of the PDF, where readers don't look.
_MARK = b"% unmask report of sha256 "
_MARKED = re.compile(re.escape(_MARK) + rb"([0-9a-f]{64})\n\Z")
_OPTIONS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
    "--disable-extensions", "--disable-sync", "--disable-component-update",
    "--disable-background-networking", "--disable-breakpad", "--no-pdf-header-footer",
    # The page asks for nothing; so the browser can't either.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
)  # fmt: skip


class PrintError(UnmaskError):
    """A page could not be printed."""


def find_browser(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the program that prints: CHROME_PATH's, or the first that is found on PATH.

    Raises:
        PrintError: there is none.
    """
    if named := environment.get(VARIABLE):
        if found := shutil.which(named, path=environment.get("PATH", "")):
            return Path(found)
        raise PrintError(
            f"Asked to print a report by {VARIABLE}={named}; no program is there that this user "
            "may run. Correct it, or unset it to take the browser on PATH."
        )
    path = environment.get("PATH", os.defpath)
    for name in (*_NAMES, *_ELSEWHERE):
        if found := shutil.which(name, path=path):
            return Path(found)
    raise PrintError(
        "Asked to print a report to PDF; found no browser that does it. Install Chromium or Chrome "
        f"(`apt-get install chromium`), or name one by {VARIABLE}; the HTML is the same page."
    )


def needs_no_sandbox() -> bool:
    """Say whether Chromium refuses its sandbox: to root, who has every right without it."""
    return sys.platform != "win32" and os.geteuid() == 0


def print_page(page: Path, out: Path, browser: Path) -> None:
    """Print a report to out, without a network, by a profile of its own that is deleted.

    Raises:
        DiskError: the disk takes no more.
        PrintError: the browser ended without a PDF, or took longer than two minutes.
    """
    with private_folder("print") as folder:
        printed = folder / "page.pdf"
        command = [
            str(browser), *_OPTIONS, *["--no-sandbox"] * needs_no_sandbox(),
            f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={printed}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        said = _run(command, folder, page)
        try:
            content = read_regular(printed, _MOST_BYTES)
        except OSError:
            content = b""
    if not content.startswith(b"%PDF-"):
        raise PrintError(
            f"{out}: asked {browser.name} to print {page}, found no PDF. It said: {said:.300}"
        )
    digest = hashlib.sha256(page.read_bytes()).hexdigest().encode()
    write_atomically(out, content.rstrip(b"\n") + b"\n" + _MARK + digest + b"\n")


def printed_digest(content: bytes) -> str | None:
    """Return the SHA-256 of the page of which a PDF is the print; None of another file."""
    found = _MARKED.search(content, max(0, len(content) - 200))
    return found[1].decode() if found and content.startswith(b"%PDF-") else None


def is_print(path: Path) -> bool:
    """Say whether a file is a PDF that was printed here."""
    try:
        return printed_digest(read_regular(path, _MOST_BYTES)) is not None
    except OSError:
        return False


def _run(command: list[str], folder: Path, page: Path) -> str:
    """Return the last line that a browser said; its children end with it."""
    # Not what this user has set for other browsers, nor passwords.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    words = folder / "said"  # no pipe, which the browser's children may hold open
    with words.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            cwd=folder, env=kept | {"HOME": str(folder), "TMPDIR": str(folder)},
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
    try:
        process.wait(_MOST_S)
    except subprocess.TimeoutExpired as error:
        raise PrintError(
            f"{page}: asked for its print, found none within {_MOST_S:g} s. Print the page from a "
            "browser by hand."
        ) from error
    finally:
        _end(process)
    lines = words.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"nothing, exit code {process.returncode}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    if sys.platform != "win32":
        with suppress(ProcessLookupError):  # none of them is left
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
