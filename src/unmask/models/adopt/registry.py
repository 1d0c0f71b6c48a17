"""All adapters: ours, and those of installed packages."""

import difflib
from collections.abc import Iterator
from importlib.metadata import entry_points

from unmask.errors import WeightsError
from unmask.hub.address import HUB
from unmask.models.adopt.adapter import Adapter
from unmask.models.adopt.adapters import community_forensics, deepfakebench, gend, sbi, siglip, x3d
from unmask.models.adopt.nets import PLUGINS
from unmask.models.adopt.source import repository_of

OURS: tuple[Adapter, ...] = (
    *gend.ADAPTERS, *community_forensics.ADAPTERS, *siglip.ADAPTERS, *sbi.ADAPTERS,
    *deepfakebench.ADAPTERS, *x3d.ADAPTERS,
)  # fmt: skip


def by_name(name: str) -> Adapter:
    """Return the adapter of that name: one of ours, or of an entry point's `ADAPTER`.

    Raises:
        WeightsError: there is none.
    """
    for adapter in OURS:
        if adapter.name == name:
            return adapter
    for found in entry_points(group=PLUGINS, name=name):
        adapter = found.load().ADAPTER
        if not isinstance(adapter, Adapter):
            raise WeightsError(
                f"The entry point {name} of the group {PLUGINS} should have an ADAPTER; found a "
                f"{type(adapter).__name__}. Ask whoever made that package."
            )
        return adapter
    known = list(_names())
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
    raise WeightsError(f"Asked for the adapter {name}; there is none of that name: {hint}")


def for_source(source: str) -> Adapter:
    """Return the adapter that was written for a source.

    Raises:
        WeightsError: none was.
    """
    repository = repository_of(source)
    for adapter in OURS:
        if repository is not None and repository.lower() in map(str.lower, adapter.repositories):
            return adapter
    what = f"the repository {repository}" if source.startswith(HUB) else source
    raise WeightsError(
        f"Asked to adopt {what}; no adapter was written for it. Name the one that fits by "
        f"--adapter ({', '.join(_names())}), or describe the net by --spec."
    )


def _names() -> Iterator[str]:
    yield from (adapter.name for adapter in OURS)
    yield from sorted({found.name for found in entry_points(group=PLUGINS)})
