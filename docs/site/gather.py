"""Lay out what the site is made of: `python docs/site/gather.py FOLDER`.

The folder gets the pages at the same places as in the repository, and each file that a page links
to: so a link that works on GitHub works on the site, unchanged.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\((?![a-z]+:)([^()\s#]+)[^()\s]*\)")


def pages(root: Path) -> Iterator[Path]:
    """Yield the documents, from the root of the repository."""
    for pattern in ("*.md", "docs/*.md", "docs/api/*.md"):
        yield from sorted(path.relative_to(root) for path in root.glob(pattern))


def linked_files(root: Path, page: Path) -> Iterator[Path]:
    """Yield the files that a page links to, from the root; a link to nothing yields nothing.

    What lies outside the repository is nothing, too: the site's build then says so.
    """
    for link in _LINK.findall((root / page).read_text(encoding="utf-8")):
        target = (root / page.parent / link).resolve()
        if target.is_file() and target.is_relative_to(root):
            yield target.relative_to(root)


def gather(root: Path, folder: Path) -> None:
    """Fill the folder anew. Linked documents are pages, and their links are followed."""
    if folder.exists():
        shutil.rmtree(folder)
    waiting, seen = list(pages(root)), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
        if path.suffix == ".md":
            waiting += linked_files(root, path)
    (folder / "assets").mkdir()
    shutil.copy(root / "docs/site/iframe-worker.js", folder / "assets")


if __name__ == "__main__":
    gather(ROOT, Path(sys.argv[1]))
