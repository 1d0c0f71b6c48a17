"""A chunk's manifest.csv."""

from fuzz.memory import read_chunk

SEEDS = [
    b"path,label,source,donors,method,split,original\n"
    b"real/a.mp4,REAL,ann,,,train,\nfake/b.mp4,1,,ann|bob,swap,test,real/a.mp4\n",
    b"\xef\xbb\xbfpath,label\r\na.mp4,0\r\nb.mp4,1\r\n",
    b'path,label\n"a,b ""c"".mp4",REAL\nb.mp4,FAKE\n',
    b"path,label,original\na.mp4,FAKE,b.mp4\nb.mp4,FAKE,a.mp4\n",
    b"path,label\n../a.mp4,REAL\n",
    b"path,label\na.mp4\n",
    b'path,label\n"a.mp4,REAL\n',
    b"path,label\n" + b"a" * 140_000 + b",REAL\n",
]
TOKENS = ["path", "label", "source", "donors", "original", "REAL", "FAKE", "|", ",", '"', ".mp4",
          "/", "..", "\\\\", "\\x00", "\\x1b", "\\xe2\\x80\\xae"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk with this manifest."""
    read_chunk({"manifest.csv": data})
