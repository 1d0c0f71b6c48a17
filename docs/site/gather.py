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
_LIST = re.compile(r"- |1\. ")  # what begins a list in the midst of a paragraph on GitHub
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


def with_lists_apart(text: str) -> str:
    r"""Return a page with an empty line before each list.

    GitHub needs none after a paragraph's line; Python's Markdown, which the site is made by, does.

    >>> with_lists_apart("Two:\n- one\n- two\n  goes on\n- three\n")
    'Two:\n\n- one\n- two\n  goes on\n- three\n'
    """
    lines: list[str] = []
    is_code, within = False, ""
    for line in text.splitlines():
        is_code ^= line.startswith("```")
        begins = _LIST.match(line) is not None
        if begins and within == "paragraph" and not is_code:
            lines.append("")
        lines.append(line)
        if begins:
            within = "list"
        elif not line or line.startswith(("#", "|", "```")):
            within = ""
        elif not within:
            within = "paragraph"
    return "\n".join([*lines, ""])


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
        if path.suffix == ".md":
            text = (root / path).read_text(encoding="utf-8")
            (folder / path).write_text(with_lists_apart(text), encoding="utf-8")
            waiting += linked_files(root, path)
        else:
            shutil.copyfile(root / path, folder / path)
    (folder / "assets").mkdir()
    shutil.copy(root / "docs/site/iframe-worker.js", folder / "assets")


if __name__ == "__main__":
    gather(ROOT, Path(sys.argv[1]))
