"""The documents name what exists: files and headings behind links, paths of code, and params."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# ARCHITECTURE.md also writes module.function this way.
USER_PAGES = [page for page in PAGES if page.name != "ARCHITECTURE.md"]
ROOTS = ("", "src/unmask/", "tests/")  # what a path in backticks may begin from
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE_PATH = re.compile(r"`(?:[^`\n]*\s)?((?:[\w.-]+/)+[\w.-]+\.(?:py|sh))(?:\s[^`\n]*)?`")
_PARAM = re.compile(r"`([a-z]+)\.([a-z][a-z0-9_]*)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TREE_LINE = re.compile(r"^( {0,12})(\S+)", re.MULTILINE)  # deeper is what goes on of words above
# Of these folders ARCHITECTURE.md's tree says what their modules have in common.
SUMMARISED = ("src/unmask/data/layouts", "src/unmask/models/adopt/adapters")


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings.

    >>> anchors("## A chunk of DFDC, with the article's values")
    {'a-chunk-of-dfdc-with-the-articles-values'}
    """
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {words.strip().replace(" ", "-") for words in plain}


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page whose file or anchor does not exist."""
    broken = []
    for link in _LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue  # another site's
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


def missing_paths(page: Path) -> list[str]:
    """Return the paths of code in a page's backticks that exist nowhere in the repository."""
    named = _CODE_PATH.findall(page.read_text())
    return [path for path in named if not any((ROOT / root / path).is_file() for root in ROOTS)]


def unknown_params(page: Path) -> list[str]:
    """Return what a page names in backticks as a param of a section that has no such param."""
    sections = yaml.safe_load((ROOT / "params.yaml").read_text())
    return [
        f"{section}.{key}" for section, key in _PARAM.findall(page.read_text())
        if isinstance(known := sections.get(section), dict) and key not in (*known, "zip")
    ]  # fmt: skip


def tree_paths(page: str) -> set[str]:
    """Return the paths that the tree of a page names: its first block of code.

    >>> sorted(tree_paths("```\\na/b/  words\\n  c.py  words\\n  d/\\n    e.py\\nf.py\\n```"))
    ['a/b/', 'a/b/c.py', 'a/b/d/', 'a/b/d/e.py', 'f.py']
    """
    found: set[str] = set()
    folders: list[tuple[int, str]] = []
    for indent, name in _TREE_LINE.findall(page.split("```")[1].strip("\n")):
        folders = [(depth, path) for depth, path in folders if depth < len(indent)]
        path = (folders[-1][1] if folders else "") + name
        found.add(path)
        if name.endswith("/"):
            folders.append((len(indent), path))
    return found


def test_the_tree_of_the_architecture_has_each_module_and_no_other() -> None:
    named = tree_paths((ROOT / "ARCHITECTURE.md").read_text())
    ours = {path for path in named if path.startswith("src/unmask/") and path.endswith(".py")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "src/unmask").rglob("*.py")}
    assert {path for path in ours if not (ROOT / path).is_file()} == set()
    assert {
        path for path in modules - ours
        if not path.endswith("/__init__.py") and not path.startswith(SUMMARISED)
    } == set()  # fmt: skip


def test_pages_are_found() -> None:
    assert {"README.md", "SECURITY.md", "serve.md", "labels.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_code_exist(page: Path) -> None:
    assert missing_paths(page) == []


@pytest.mark.parametrize("page", USER_PAGES, ids=lambda page: page.name)
def test_params_exist(page: Path) -> None:
    assert unknown_params(page) == []


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One: `heading`\n[a](page.md) [b](gone.md) [c](#one-heading) [d](#gone) "
        "[e](https://example.org/x)\n`src/unmask/params.py` `faces/tracks.py` "
        "`python benchmarks/gone.py [X]` `serve/gone.py`, and `params.py`, `train.epochs`, "
        "`train.epoch`, `model.zip`, `elsewhere.epoch`\n"
    )
    assert broken_links(page) == ["gone.md", "#gone"]
    assert missing_paths(page) == ["benchmarks/gone.py", "serve/gone.py"]
    assert unknown_params(page) == ["train.epoch"]
