"""A net of a stranger's model in the ONNX format, before OpenVINO is given it."""

from unmask.engine.onnx_file import check_self_contained
from unmask.errors import UnmaskError


def _field(number: int, value: bytes | int) -> bytes:
    """Return a field of protobuf of less than 128 bytes: a number, or the bytes of a message."""
    kind, content = (0, bytes([value])) if isinstance(value, int) else (2, value)
    tag = number << 3 | kind
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + (bytes([len(content)]) if kind else b"") + content


_TENSOR = _field(1, 2) + _field(2, 1) + _field(8, b"w") + _field(9, bytes(8))
_ELSEWHERE = _TENSOR + _field(13, _field(1, b"location") + _field(2, b"secret")) + _field(14, 1)
_ADD = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, b"Add")
_HEAD = _field(1, 8) + _field(8, _field(2, 18))


def _net(*parts: bytes) -> bytes:
    return _HEAD + _field(7, _field(1, _ADD) + b"".join(parts))


# What passes, and what must not: the last ones are refused.
_GOOD = [_net(_field(5, _TENSOR)), _net(_field(5, _TENSOR + _field(14, 0))), _net()]
_BAD = [
    _net(_field(5, _ELSEWHERE)),
    _net(_field(15, _field(1, _ELSEWHERE))),
    _net(_field(1, _ADD + _field(5, _field(5, _ELSEWHERE)))),
    _net(_field(1, _ADD + _field(5, _field(6, _field(1, _ADD))))),
    _net(_field(1, _ADD + _field(7, b"com.microsoft"))),
    _net() + _field(25, _field(1, b"own")),
    _field(1, 8) + _field(2, b'<net version="11"/>') + _field(7, _field(1, _ADD)),
    _field(1, 8) + _field(2, b"ORTM") + _field(7, _field(1, _ADD)),
    b"",
    b"<net version='11'/>",
]
SEEDS = [*_GOOD, *_BAD]
TOKENS = ["location", "offset", "com.microsoft", "ai.onnx", "\\x6a", "\\x70\\x01", "\\x7a", "\\x3a",
          "\\x2a", "\\xca\\x01", "\\xff\\xff\\xff\\xff\\x0f", "\\x80\\x80\\x80\\x80"]  # fmt: skip


def read(data: bytes) -> None:
    """Check the file; the seeds that must not pass don't."""
    try:
        check_self_contained(data)
    except UnmaskError:
        assert data not in _GOOD
        return
    assert data not in _BAD
