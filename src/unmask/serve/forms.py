"""A form with a file in it, written to the file as it arrives."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from unmask.serve.intake import UploadError

# It has a line for each malformed form, of which strangers send as many as they like.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

FORM_BYTES = 65_536  # all that a form holds beside its file
_MOST_PARTS = 9  # the file, and a few fields that nobody reads
_MOST_HEADERS, _MOST_HEADER_BYTES = 8, 2_048  # of a part: browsers send two
_MOST_TYPE_BYTES = 512
_MOST_BOUNDARY = 70  # RFC 2046, section 5.1.1


def is_form(content_type: str) -> bool:
    """Say whether a body of this type is a form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def boundary_of(content_type: str) -> bytes:
    """Return what stands between a form's parts.

    A charset that is named there is never looked up: multipart/form-data has no such parameter
    (RFC 7578, section 8), some of Python's codecs take quadratic time, and others make text that
    can't be written.

    Raises:
        UploadError: there is no boundary.
    """
    if len(content_type) > _MOST_TYPE_BYTES:
        raise no_file(f"a Content-Type of {len(content_type)} characters")
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MOST_BOUNDARY:
        raise no_file("a form without a boundary of 1 to 70 characters")
    return boundary


async def receive(content_type: str, chunks: AsyncIterator[bytes], file: BinaryIO) -> str:
    """Write a form's one file to `file`, and return what its sender calls it.

    Raises:
        UploadError: there is not exactly one file, or this is not a form.
    """
    form = _Form(file)
    try:
        parser = MultipartParser(
            boundary_of(content_type),
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.add_to_header_name,
                "on_header_value": form.add_to_header_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.end_headers,
                "on_part_data": form.add_data,
                "on_end": form.end,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_MOST_HEADER_BYTES,
        )
        async for chunk in chunks:
            # Away from the event loop: a crafted body is parsed at a few MB/s, and disks are slow.
            await anyio.to_thread.run_sync(parser.write, chunk)
        parser.finalize()
    except FormParserError as error:
        raise no_file("a form that is not well formed") from error
    if not form.is_whole:
        raise no_file("a form that breaks off")
    if form.name is None:
        raise no_file("a form without a file")
    return form.name


@dataclass
class _Form:
    """What is known of a form so far."""

    file: BinaryIO
    name: str | None = None  # of the file, once its part has begun
    parts: int = 0
    beside_bytes: int = 0  # in parts that are no file
    is_whole: bool = False
    _is_file: bool = False
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _disposition: bytes = b""

    def begin_part(self) -> None:
        self.parts += 1
        self._is_file, self._disposition = False, b""
        if self.parts > _MOST_PARTS:
            raise no_file(f"a form of more than {_MOST_PARTS} parts")

    def add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def end_header(self) -> None:
        name, value = map(bytes, self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = bytearray(), bytearray()

    def end_headers(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise no_file("a part of a form without a name")
        if b"filename" not in options:
            return
        if self.name is not None:
            raise no_file("a form with two files")
        self._is_file, self.name = True, _text(options[b"filename"])

    def add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.file.write(memoryview(data)[start:end])
            return
        self.beside_bytes += end - start
        if self.beside_bytes > FORM_BYTES:
            raise no_file(f"a form with more than {FORM_BYTES} bytes beside its file")

    def end(self) -> None:
        self.is_whole = True


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def no_file(found: str) -> UploadError:
    """Return the error for a body that is neither a video nor a form with one."""
    return UploadError(
        f"Asked for a form with one file, or a body that is the video; found {found}. Send it as "
        "`curl -F file=@clip.mp4` does.",
        status=HTTPStatus.BAD_REQUEST, kind="no_file",
    )  # fmt: skip
