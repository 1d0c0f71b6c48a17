"""`make docs`: every page is in the menu, links hold, and nothing is asked of another host."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import open_chromium

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".site/tools/bin/mkdocs"
sys.path.insert(0, str(ROOT / "docs/site"))
import gather  # noqa: E402  (a script beside the documents, in no package)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a small repository: two documents, and what they link to."""
    root = tmp_path / "repository"
    write(root, **{
        "README.md": "# One\n[two](docs/two.md#a-heading) ![p](docs/p.png) [s](https://example.org)",
        "docs__two.md": "# Two\n## A heading\n[up](../README.md) [card](../weights/card.md)",
        "docs__p.png": "", "docs__unused.png": "",
        "weights__card.md": "# Card\n[list](list.csv#top) [gone](gone.csv) [out](../../secret.md)",
        "weights__list.csv": "a", "secret.py": "",
        "docs__site__iframe-worker.js": "",
    })  # fmt: skip
    write(tmp_path, **{"secret.md": "not ours"})
    return root


def test_pages_and_what_they_link_to_lie_where_they_lay(small: Path, tmp_path: Path) -> None:
    write(tmp_path, **{"out__old.md": "of the last build"})
    gather.gather(small, tmp_path / "out")
    assert files_below(tmp_path / "out") == {
        "README.md", "docs/two.md", "docs/p.png", "weights/card.md", "weights/list.csv",
        "assets/iframe-worker.js",
    }  # fmt: skip


def test_the_menu_and_the_list_of_documents_name_the_same_pages_in_one_order() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    entries = [
        page for entry in nav for part in entry.values()
        for page in ([part] if isinstance(part, str) else [p for e in part for p in e.values()])
    ]  # fmt: skip
    menu = [page.removeprefix("docs/") for page in entries if page.startswith("docs/")]
    listed = [
        str(path.relative_to("docs")) for path in gather.linked_files(ROOT, Path("docs/README.md"))
        if path.is_relative_to("docs")
    ]  # fmt: skip
    own = [page for page in menu if not page.startswith("api/") and page != "README.md"]
    assert own == [page for page in listed if not page.startswith("api/")]
    assert len(entries) == len(set(entries))


@pytest.fixture(scope="module")
def tools() -> Path:
    if not MKDOCS.exists():
        pytest.skip("NO TOOLS: `make docs` installs what builds the site, and then this is tested")
    return MKDOCS


def build(mkdocs: Path, root: Path) -> str:
    """Build a site from the small repository's pages; return mkdocs' warnings."""
    settings = (ROOT / "mkdocs.yml").read_text()
    settings = settings[: settings.index("\nnav:")] + (
        "\nnav: [README.md, docs/two.md, weights/card.md]\n"
    )
    settings = settings.replace("paths: [src]", f"paths: [{ROOT / 'src'}]")
    settings = settings.replace("docs/site/comments.py", str(ROOT / "docs/site/comments.py"))
    (root / "mkdocs.yml").write_text(settings)
    gather.gather(root, root / ".site/pages")
    done = subprocess.run(
        [mkdocs, "build", "--strict"], cwd=root, capture_output=True, text=True,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
    )  # fmt: skip
    warnings = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert bool(done.returncode) == bool(warnings), done.stderr
    return "\n".join(warnings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("docs__two.md", "# Two\n## A heading\n[card](../weights/card.md)", ""),
        (
            "docs__two.md",
            "# Two\n## A heading\n[card](../weights/card.md) [x](gone.md)",
            "'gone.md'",
        ),
        ("docs__two.md", "# Two\n## Another\n", "does not contain an anchor '#a-heading'"),
        ("docs__three.md", "# Three\n", 'not included in the "nav" configuration'),
        ("docs__two.md", "## A heading\n::: unmask.scoring.gone\n", "could not be found"),
    ],
)
def test_the_build_is_strict(tools: Path, small: Path, page: str, text: str, said: str) -> None:
    write(small, **{"weights__card.md": "# Card\n", page: text})
    answer = build(tools, small)
    assert said in answer
    assert bool(said) == bool(answer), answer


@pytest.mark.slow
def test_the_built_site_is_read_and_searched_offline_as_files(tools: Path, tmp_path: Path) -> None:
    gather.gather(ROOT, tmp_path / ".site/pages")
    settings = (ROOT / "mkdocs.yml").read_text()
    settings = settings.replace(".site/", f"{tmp_path}/.site/")
    (tmp_path / "mkdocs.yml").write_text(
        settings.replace("[src]", f"[{ROOT}/src]").replace("[docs/site", f"[{ROOT}/docs/site")
    )
    subprocess.run([tools, "build", "--strict"], cwd=tmp_path, check=True, timeout=120)
    html = tmp_path / ".site/html"
    answers = (html / "docs/api/answers.html").read_text()
    assert "the most suspicious face's; None where there is no face" in answers  # a comment
    with open_chromium() as chromium:
        page = chromium.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for file in sorted(html.rglob("*.html")):
            page.goto(file.as_uri())
        page.goto((html / "index.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("fedavg")
        found = page.locator(".md-search-result__item", has_text="federated benchmark")
        found.first.wait_for()
        found.first.locator("a").first.click()
        page.wait_for_url("**/docs/federated.html*")
        assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
