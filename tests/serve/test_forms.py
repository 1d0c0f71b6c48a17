"""Forms as they arrive, in pieces of any size."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from unmask.serve import forms
from unmask.serve.intake import UploadError

KIND = "multipart/form-data; boundary=B"


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--B\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"


FILE = part(b'name="file"; filename="a.mp4"', b"\r\n--A\r\n--B\x00 content")
END = b"--B--\r\n"


def receive(body: bytes, kind: str = KIND, *, piece: int = 10**6) -> tuple[str, bytes]:
    """Return a form's file's name and content."""

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), piece):
            yield body[begin : begin + piece]

    file = io.BytesIO()
    name = asyncio.run(forms.receive(kind, pieces(), file))
    return name, file.getvalue()


@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_the_file_is_what_was_sent(piece: int) -> None:
    body = part(b"name=a") + FILE + part(b"name=b") + END
    assert receive(body, piece=piece) == ("a.mp4", b"\r\n--A\r\n--B\x00 content")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Müller.mp4".encode(), "Müller.mp4"),
        ("Müller.mp4".encode("latin-1"), "Müller.mp4"),
        (b"\xed\xa0\x80.mp4", "í\xa0\x80.mp4"),  # a surrogate is no UTF-8
    ],
)
def test_a_name_is_utf_8_or_else_latin_1(sent: bytes, name: str) -> None:
    assert receive(part(b'name=file; filename="' + sent + b'"') + END)[0] == name


@pytest.mark.parametrize(
    "charset",
    ["utf-8", '"UTF-8"', "punycode", "idna", "unicode_escape", "undefined", "utf-16", "zlib",
     "x" * 300, "é"],
)  # fmt: skip
def test_a_charset_changes_nothing(charset: str) -> None:
    body = part(rb'name=file; filename="a\\ud800.mp4"', b"content") + END
    assert receive(body, f"{KIND}; charset={charset}") == (r"a\ud800.mp4", b"content")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (END, KIND),
        (b"", KIND),
        (part(b"name=a") + END, KIND),
        (FILE + FILE + END, KIND),
        (FILE, KIND),  # breaks off
        (FILE[:-20], KIND),
        (part(b'filename="a.mp4"') + END, KIND),
        (b"--B\r\n\r\nx\r\n" + END, KIND),
        (b"--B\r\nContent-Disposition: attachment; name=a; filename=b\r\n\r\nx\r\n" + END, KIND),
        (9 * part(b"name=a") + FILE + END, KIND),
        (part(b"name=a", bytes(70_000)) + FILE + END, KIND),
        (part(b"name=" + 3_000 * b"a") + FILE + END, KIND),
        (b"--B\r\n" + 9 * b"A: b\r\n" + FILE[5:] + END, KIND),
        (b"--B\r\nno header\r\n\r\nx" + END, KIND),
        (FILE + END, "multipart/form-data"),
        (FILE + END, "multipart/form-data; boundary="),
        (FILE + END, "multipart/form-data; boundary=" + 71 * "B"),
        (FILE + END, f"{KIND}; x=" + 600 * "x"),
    ],
)
def test_what_is_no_form_with_one_file_is_refused(
    body: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UploadError) as refused:
        receive(body, kind)
    assert (refused.value.status, refused.value.kind) == (400, "no_file")
    assert not caplog.records  # strangers write no log


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (KIND, True), ("Multipart/Form-Data;boundary=B", True), ("multipart/form-datax", False),
        ("video/mp4", False), ("", False),
    ],
)  # fmt: skip
def test_a_form_says_that_it_is_one(kind: str, expected: bool) -> None:
    assert forms.is_form(kind) is expected
