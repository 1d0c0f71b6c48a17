"""What a file in the ONNX format may hold: one net, with all its weights, and nothing that loops.

Such a file may be a stranger's, and OpenVINO would read whatever other file it names. The format's
own package is not needed: a message of protobuf is a list of numbered fields, and a field is a
number, some bytes or another message (https://protobuf.dev/programming-guides/encoding). The
fields are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

The libraries guess a file's format from its bytes, and a file may be of two formats at once. So
what they would take for another format, in which none of this was checked, is refused as well.
"""

import re
from collections.abc import Iterator

from unmask.errors import WeightsError

_INSIDE = {  # the messages within a message, by the number of their field
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_REFUSED = {  # fields that nothing written here has
    ("model", 20): "it describes a training",
    ("model", 25): "it defines functions",
    ("attribute", 6): "it holds a loop or a branch",
    ("attribute", 11): "it holds a loop or a branch",
    ("tensor", 13): "its weights are said to lie in another file",
    ("tensor", 14): "its weights are said to lie in another file",
}
_DOMAIN = "node", 7  # who defines an operation
_OWN_DOMAINS: set[int | bytes | memoryview] = {b"", b"ai.onnx"}
_MOST_FIELDS = 1_000_000  # a ViT-L has about 50,000
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIRST = b"\x08"  # of every writer's files: the format's version
_VERSION = "model", 1  # a number; in TensorFlow's and Paddle's files messages, which hold the net
_ANOTHER = "it could be read as a file of another format"
# OpenVINO's own format is XML. Its parser skips what comes before the element, up to a zero byte.
# Without the space it might be a tensor's name, of 60 letters: their number is the byte "<".
_OPENVINO_XML = re.compile(rb"[^\0]*?<net[ \t\r\n]")
_ORT_AT, _ORT = 4, b"ORTM"  # ONNX Runtime's own format

_Field = tuple[int, int | memoryview]  # its number, and its value


def check_self_contained(content: bytes) -> None:
    """Pass if a file in the ONNX format names no other file, loop or operation of others.

    Raises:
        WeightsError: it does, or it is no such file, or may be taken for one of another format.
    """
    if not content.startswith(_FIRST):
        raise _refused("it does not begin as such a file")
    if _OPENVINO_XML.match(content) or content.startswith(_ORT, _ORT_AT):
        raise _refused(_ANOTHER)
    waiting = [("model", memoryview(content))]
    seen, graphs = 0, 0
    while waiting:
        kind, message = waiting.pop()
        for number, value in _fields(message):
            seen += 1
            if seen > _MOST_FIELDS:
                raise _refused(f"it has more than {_MOST_FIELDS:,} parts")
            # Where the weights lie: 0, the default, is in the file.
            if (kind, number) in _REFUSED and value != 0:
                raise _refused(_REFUSED[kind, number])
            if (kind, number) == _VERSION and isinstance(value, memoryview):
                raise _refused(_ANOTHER)
            if (kind, number) == _DOMAIN and value not in _OWN_DOMAINS:
                raise _refused("it has an operation that is none of ONNX's own")
            if (inside := _INSIDE[kind].get(number)) is not None:
                if not isinstance(value, memoryview):
                    raise _refused("it is damaged")
                waiting.append((inside, value))
                graphs += inside == "graph"
    if graphs != 1:
        raise _refused(f"it holds {graphs} nets")


def _fields(message: memoryview) -> Iterator[_Field]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number < 2**29:
            raise _refused("it is damaged")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:  # a group: no version of ONNX has any
            raise _refused("it is damaged")
        if size > len(message) - at:
            raise _refused("it ends early")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and where the next field begins."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _refused("it ends early")


def _refused(why: str) -> WeightsError:
    return WeightsError(
        f"Asked for a net in the ONNX format; this one is refused: {why}. Fetch the model again, "
        "or delete its net.onnx: where torch is installed, it is made of the weights instead."
    )
