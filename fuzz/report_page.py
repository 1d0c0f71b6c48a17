"""A page of `unmask predict --report`, as `unmask verify` is handed it."""

import json
from typing import Any

from fuzz.folder import make, put
from unmask.answers import verify
from unmask.errors import UnmaskError

_FOLDER = make()
_OPEN = '<script type="application/json" id="unmask-report">'
_DATA: dict[str, Any] = {
    "format": verify.FORMAT, "page_sha256": verify.BLANK,
    "video": {"sha256": "1" * 64}, "model": {"sha256": "2" * 64},
    "answer": {"probability": 0.5, "verdict": "fake", "reason": None},
}  # fmt: skip


def _page(**changes: Any) -> str:
    return f"<!doctype html>\n{_OPEN}{json.dumps(_DATA | changes)}</script>\n"


_VIDEO = put(_FOLDER / "clip.mp4", b"video")
_PAGES = [
    verify.seal(_page()),
    _page(page_sha256="\x1b[2Jmatches"),
    _page(video={"sha256": "\x1b[2J\x1b[Hfile    matches"}),
    _page(video={"sha256": ["\u202e"]}, model={"sha256": {}}),
    _page(format="\x1b[31m"),
    _page(format=10**400),
    _page(answer={"probability": "0.5", "verdict": [], "reason": 3}),
    _page(video=[], model=None),
    _page() * 2,
    f"{_OPEN}{'[' * 2000}</script>",
    _OPEN * 4000,  # each of which could begin the data
    f"{_OPEN}</script>" * 4000,
    '"page_sha256": "' * 4000,
    _OPEN.upper() + "</script >",
]
SEEDS = [page.encode() for page in _PAGES]
TOKENS = [_OPEN.replace('"', '\\"'), "</script>", '\\"page_sha256\\": \\"', '\\"format\\"',
          '\\"video\\"', '\\"sha256\\"', '\\"answer\\"', "\\\\u001b", "\\x1b", "<!--"]  # fmt: skip


def read(data: bytes) -> None:
    """Compare the page with itself and a video; what is said of it can be shown on a terminal."""
    try:
        found = verify.check(put(_FOLDER / "page.html", data), _VIDEO, None)
        said = [check.detail for check in found.checks]
    except UnmaskError as error:
        said = [str(error)]
    for words in said:
        assert words.isprintable(), f"words that do not print: {words!a}"
        assert len(words) < 10_000, f"{len(words):,} letters"
