"""params.yaml, as it stands in a revision or a fork."""

from pathlib import Path

from fuzz.folder import make, put
from unmask import params
from unmask.errors import UnmaskError

_FOLDER = make()
_OWN = Path("params.yaml").read_bytes()
_ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 9)
)
_MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}\n" for n in range(1, 7)
)
SEEDS = [
    _OWN,
    b"chunks: [a, b]\nraw: {max_real: 2e-05}\n",
    b"chunks: 2001-99-99\n",
    b"chunks: 0x_\n",
    b"chunks: !!int a\n",
    b"chunks: !!timestamp a\n",
    b"chunks: !!python/object/apply:os.system [true]\n",
    b"? [a]\n: b\n",
    b"? {}\n: b\n",
    b"&a [*a]",
    _ALIASES.encode(),
    _MERGES.encode(),
    b"[" * 2000,
    b"\xff",
    b"--- a\n--- b\n",
    b"",
]
TOKENS = ["chunks:", "raw:", "model:", "!!int ", "!!float ", "!!binary ", "!!timestamp ", "!!set ",
          "!!omap ", "&a ", "*a", "<<: ", "? ", "- ", "0x_", "2001-01-01", ".inf"]  # fmt: skip


def read(data: bytes) -> None:
    """Read the params."""
    try:
        params.load(put(_FOLDER / "params.yaml", data))
    except UnmaskError as error:
        assert len(str(error)) < 100_000, f"a message of {len(str(error)):,} letters"
