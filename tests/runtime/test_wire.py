"""What processes say to each other: records come through, nothing that would run code."""

import os
import pickle
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from unmask import params
from unmask.errors import DiskError
from unmask.records import FaceTrack, Reason, VideoFaces
from unmask.runtime import wire
from unmask.runtime.child import Child
from unmask.serve.inference import Refusal, Refused, Step

TRACK = FaceTrack(0, "a_0.mp4", (0.0, 0.1), ((0.0, 1.0, 2.0, 3.0),) * 2, (0.9, 0.8))


@pytest.mark.parametrize(
    "message",
    [
        None, 3, 2.5, "words", b"bytes", bytearray(b"more"), [1, (2, {"a": {3}})], frozenset({4}),
        complex(1, 2), range(3), Fraction(1, 3), Counter("aab"), Path("clip.mp4"),
        VideoFaces("a", "key", (TRACK,), Reason.TRUNCATED, "why"), Step("Reading", 0.5),
        Refusal(Refused.TOO_LONG, "long"), params.load().faces, np.float32(1.5),
    ],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_plain_data_comes_through(message: object) -> None:
    found = wire.loads(wire.dumps(message))
    assert found == message
    assert type(found) is type(message)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int64, bool, "<U3"])
def test_pictures_come_through(kind: object) -> None:
    sent = np.arange(24).reshape(2, 3, 4).astype(kind)
    for array in (sent, sent[:, ::2], np.asfortranarray(sent)):
        found = wire.loads(wire.dumps(array))
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


def test_an_error_comes_through_with_its_notes() -> None:
    error = DiskError("the disk is full")
    error.add_note("this was the job")
    found = wire.loads(wire.dumps(error))
    assert type(found) is DiskError
    assert found.args == error.args
    assert found.__notes__ == ["this was the job"]


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    "message",
    [
        Calls(os.system, "true"), Calls(eval, "1"), Calls(exec, "1"),
        Calls(subprocess.Popen, "true"),
        Calls(getattr, Path, "unlink"), Calls(Child, print), Calls(open, "wanted", "w"),
        Calls(wire.loads, b""), Calls(params.load), Calls(np.load, "a.npy"),
        Calls(__import__, "this"),
        os.system, [{"deep": Calls(os.system, "true")}], ValueError(Calls(os.system, "true")),
        np.array([Calls(os.system, "true")], dtype=object),
    ],
)  # fmt: skip
def test_what_would_run_code_is_refused(message: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no plain data"):
        wire.loads(pickle.dumps(message))


def test_enums_of_each_python_come_through() -> None:
    # Python 3.11.0 to 3.11.3 write a member as a call of getattr; Debian 12 has 3.11.2.
    written = pickle.dumps(Calls(getattr, Refused, "TOO_LONG"))
    assert b"getattr" in written
    assert wire.loads(written) is Refused.TOO_LONG
    assert wire.loads(pickle.dumps(Calls(Refused, "too_long"))) is Refused.TOO_LONG
    assert wire.loads(named("builtins", "getattr")) is not getattr


@pytest.mark.parametrize(
    "message",
    [
        Calls(getattr, Refused, "__members__"), Calls(getattr, Refused, "mro"),
        Calls(getattr, Refused, "none_of_its_own"), Calls(getattr, Refused.TOO_LONG, "value"),
        Calls(getattr, VideoFaces, "__init__"), Calls(getattr, "words", "format"),
    ],
)  # fmt: skip
def test_nothing_but_members_is_looked_up(message: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no plain data"):
        wire.loads(pickle.dumps(message))


def test_nothing_is_imported() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"antigravity\.x"):
        wire.loads(b"cantigravity\nx\n.")


def named(module: str, name: str) -> bytes:
    """Return a pickle that asks for something of a module."""
    words = [bytes([0x8C, len(word)]) + word.encode() for word in (module, name)]
    return b"\x80\x04" + b"".join(words) + b"\x93."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("unmask.records", "content_digest"), ("unmask.records", "VideoFaces.__init__"),
        ("unmask.runtime.processes", "os.system"), ("unmask.runtime.processes", "subprocess.Popen"),
        ("unmask.runtime.processes", "Child.kill"), ("builtins", "setattr"),
    ],
)  # fmt: skip
def test_functions_are_no_data(module: str, name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no plain data"):
        wire.loads(named(module, name))
    assert wire.loads(named("unmask.records", "VideoFaces")) is VideoFaces


@pytest.mark.parametrize("message", [b"", b"\x80\x05", b"junk", wire.dumps("words")[:-4]])
def test_what_is_cut_off_is_refused(message: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        wire.loads(message)
