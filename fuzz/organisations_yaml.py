"""organisations.yaml: who takes part on a federated network."""

from fuzz import params_yaml
from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.federated.remote import config

_FOLDER = make()
_GOOD = b"""submitter: ann
functions_open_to: [ann, bob]
organisations:
  ann: {id: AnnMSP, url: "https://ann.example", client: ann, open_to: [bob]}
  bob: {id: BobMSP, url: "http://bob.example:8000/", client: bob, tls: no, open_to: [ann]}
"""
SEEDS = [
    _GOOD,
    _GOOD.replace(b"ann.example", b"[ann"),
    _GOOD.replace(b"ann.example", b"u:s3cret@ann.example"),
    _GOOD.replace(b"ann.example", b"ann.example:99999999"),
    _GOOD.replace(b"AnnMSP", b"2001-99-99"),
    _GOOD.replace(b"AnnMSP", b"!!int s3cret"),
    *params_yaml.SEEDS[2:],
]
TOKENS = [*params_yaml.TOKENS, "submitter:", "organisations:", "functions_open_to:", "client:",
          "url:", "open_to:", "https://", "@", "tls: no"]  # fmt: skip


def read(data: bytes) -> None:
    """Read the network."""
    try:
        config.read_network(put(_FOLDER / "organisations.yaml", data))
    except UnmaskError as error:
        assert len(str(error)) < 100_000, f"a message of {len(str(error)):,} letters"
