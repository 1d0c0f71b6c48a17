"""A file of answers that `unmask predict --out` goes on from, as JSON and as CSV."""

import json
from typing import Any

from fuzz.folder import make, put
from unmask.answers import answers_file
from unmask.answers.answers_file import Form, RunInfo
from unmask.errors import UnmaskError

_FOLDER = make()
_RUN_INFO = RunInfo("0" * 64, "made")
_ROW: dict[str, Any] = {
    "path": "a.mp4", "verdict": "fake", "probability": 0.9, "doubts": [], "reason": None,
    "detail": "", "worst": [{"time_s": 1.0, "face": 1}], "faces": [], "duration_s": 2.0,
    "bytes": 3, "mtime_ns": 4, "sha256": "1" * 64, "model": _RUN_INFO.model, "version": "made",
}  # fmt: skip
_CSV = f"a.mp4,fake,0.9,,,,1.0,1,1,2.0,3,4,{'1' * 64},{_RUN_INFO.model},made\n".encode()
_ODD: list[Any] = [None, [{}], 3]
SEEDS = [
    answers_file.json_line(_ROW),
    answers_file.json_line(_ROW)[:-9],
    b'{"path": ' + b"[" * 2000 + b"\n",
    *(json.dumps(_ROW | {name: odd}).encode() + b"\n" for name in _ROW for odd in _ODD),
    json.dumps(_ROW | {"bytes": 10**400, "path": "\ud800"}).encode() + b"\n",
    answers_file.csv_header() + _CSV,
    answers_file.csv_header() + _CSV.replace(b"0.9", b"nan"),
    answers_file.csv_header() + _CSV.replace(b"a.mp4", b'"a\r\nb.mp4'),
    answers_file.csv_header() + _CSV.replace(b"a.mp4", b"a" * 140_000),
    answers_file.csv_header() + b"\x00\xff\n",
    b"",
]
TOKENS = [*(f'"{name}": ' for name in _ROW), "null", "[]", "{}", "NaN", "1e999", "\\x0a", ",",
          "\\\\ud800", '"', "inf", "path,verdict"]  # fmt: skip


def read(data: bytes) -> None:
    """Go on with the file; a second run finds what the first one left."""
    forms: list[Form] = ["json", "csv"]
    for form in forms:
        path = put(_FOLDER / f"answers.{form}", data)
        try:
            with answers_file.open_answers(path, form, _RUN_INFO, again=False) as answers:
                answers.reuse([_FOLDER / "a.mp4"])
            left = path.read_bytes()
            with answers_file.open_answers(path, form, _RUN_INFO, again=False):
                assert path.read_bytes() == left, "a second run finds another file"
        except UnmaskError:
            continue
