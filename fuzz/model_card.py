"""A model's MODEL_CARD.md, of which a report shows parts."""

from fuzz.folder import make, put
from unmask.answers import provenance
from unmask.models.checkpoint import CARD

_FOLDER = make()
SEEDS = [
    b"# x3d_xs\n\nA model.\n\n## Data\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- one\n- two\n",
    b"# x\n\n## Data\n\n**\n",
    b"# x\n\n## Data\n\n``\n\n|\n\n- \n\n##\n",
    b"\n## \n\n\x0b\n\n\xff\xfe\n\n\xe2\x80\xa8\n\n\x85",
    b"## a\r\n\r\n**\r\n",
    b"---\nlicense: mit\n## Data\n---\n\n# x\n\n## Data\n\nhers\n",
    b"---\r\na: &a [*a]\r\n---",
    b"",
]
TOKENS = [
    "---\\x0a",
    "\\x0a## ",
    "\\x0a\\x0a",
    "**",
    "`",
    "| ",
    "| --- |",
    "- ",
    "\\x0c",
    "\\xe2\\x80\\xa8",
]


def read(data: bytes) -> None:
    """Read the card; each block is of a kind that the report's page knows."""
    for section in provenance.read_card(put(_FOLDER / CARD, data).parent):
        for kind, content in section.blocks:
            assert kind in ("text", "list", "table"), f"a block of the kind {kind}"
            rows = content if kind == "table" else [content] if kind == "list" else [[content]]
            assert all(isinstance(word, str) for row in rows for word in row), f"odd: {content!r}"
