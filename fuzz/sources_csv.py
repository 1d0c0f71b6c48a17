"""sources.csv: whose faces the sample is made of."""

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.forgeries import sample

_FOLDER = make()
SEEDS = [
    b"file,person,split\nstills/a.jpg,ann,train\ntalking_heads/b.mp4,bob,test\n",
    b"\xef\xbb\xbffile,person,split\r\na.jpg,ann,train\r\n",
    b"file,person,split\na.jpg,ann,train\nb.jpg,ann,test\n",
    b"file,person,split\na.jpg\n",
    b"file,person,split\na.jpg,ann,train,more\n",
    b'file,person,split\n"a.jpg,ann,train\n',
    b"file,person,split\n\xff,ann,train\n",
    b"file,person,split\n\x00,ann,train\n",
    b"file,person,split\n" + b"a" * 140_000 + b",ann,train\n",
    b"",
]
TOKENS = ["file,person,split", "train", "validation", "test", ",", '"', "\\x0d", "\\x0a", "\\x00"]


def read(data: bytes) -> None:
    """Read the list."""
    try:
        sample.read_sources(put(_FOLDER / "sources.csv", data).parent)
    except UnmaskError:
        pass
