"""A chunk that is a zip: what it lists, and the files in it."""

import io
import stat
import zipfile

from fuzz.folder import make, put
from unmask.data import archive, datasets
from unmask.errors import UnmaskError

_FOLDER = make()


def _zip(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED, mode: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = method, mode << 16
            with target.open(info, "w", force_zip64=len(members) == 1) as member:
                member.write(content)
    return packed.getvalue()


_DFDC = {"top/metadata.json": b'{"a.mp4": {"label": "REAL"}}', "top/a.mp4": b"video"}
SEEDS = [
    _zip(_DFDC),
    _zip(_DFDC, method=zipfile.ZIP_DEFLATED),
    _zip(_DFDC, mode=stat.S_IFLNK | 0o777),
    _zip({"real/a.mp4": b"a" * 3000}, method=zipfile.ZIP_DEFLATED),
    _zip({"../a.mp4": b"", "/etc/a": b"", "C:\\a": b"", "a\x00b": b"", "": b"", ".": b""}),
    _zip({"real/": b"", "real/a.mp4": b"", "fake/a.mp4": b"x", "__MACOSX/real/a.mp4": b"x"}),
    _zip({"manifest.csv": b"path,label\na.mp4,REAL\n", "a.mp4": b"\0" * 100}) + b"comment",
    b"",
]
TOKENS = ["PK\\x01\\x02", "PK\\x03\\x04", "PK\\x05\\x06", "PK\\x06\\x06", "PK\\x06\\x07",
          "\\xff\\xff\\xff\\xff", "\\x01\\x00\\x18\\x00", "../", "real/"]  # fmt: skip
_MOST_BYTES = 2**20


def read(data: bytes) -> None:
    """Open the zip, read the chunk, and take its videos out."""
    path, taken = put(_FOLDER / "chunk.zip", data), _FOLDER / "taken"
    try:
        with archive.open_chunk(path) as files:
            for name in files.sizes:
                assert name.isprintable(), f"a name that does not print: {name!a}"
                assert ".." not in name.split("/"), f"a name that leaves the chunk: {name!a}"
                files.read_bytes(name, _MOST_BYTES)
            wanted = {entry.file: entry.path for entry in datasets.read(files)}
            if sum(files.sizes.get(path, 0) for path in wanted.values()) <= _MOST_BYTES:
                for _ in archive.fill(files, wanted, taken):
                    pass
    except UnmaskError:
        pass
