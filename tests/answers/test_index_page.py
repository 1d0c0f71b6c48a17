"""The page over many answers: in a browser, which sorts, filters, and asks nobody for anything."""

import os
from pathlib import Path

import pytest
from browser import open_chromium

from unmask.answers import index_page, provenance
from unmask.answers.answers_file import RunInfo
from unmask.answers.index_page import Entry
from unmask.errors import UnmaskError
from unmask.scoring.verdicts import Doubt

HOSTILE = "<img src=x onerror=document.title=1>\"'&\u202e#?%41"
SCRIPT = "javascript:document.title=1"
RUN = RunInfo("5eed" * 16, "1.2")


def entry(root, name, outcome, probability, *doubts, duration_s=2.0, faces=1, report=None):
    report = root / "pages" / f"{report}.html" if report else None
    return Entry(
        root / "clips" / name, outcome, probability, doubts, None, None, duration_s, faces, report
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory, make_video):
    """A page of six videos: two can be decoded, two have hostile names and reports."""
    root = tmp_path_factory.mktemp("index")
    (root / "clips" / "sub").mkdir(parents=True)
    (root / "pages").mkdir()
    make_video(root / "clips/b.mp4", frames=3)
    make_video(root / "clips/sub/a.mp4", frames=3)
    for name in (HOSTILE, SCRIPT):
        (root / "pages" / f"{name}.html").write_text(f"<title>report</title>{name[0]}")
    odd = os.fsdecode(b"caf\xe9.mp4")
    entries = [
        entry(root, "b.mp4", "real", 0.1, duration_s=61.0),
        entry(root, "sub/a.mp4", "fake", 0.9, faces=2),
        entry(root, f"{HOSTILE}.mp4", "inconclusive", 0.5, Doubt.FACE_TOO_SMALL, report=HOSTILE),
        entry(
            root, f"{SCRIPT}.mp4", "inconclusive", 0.4, Doubt.FACE_TOO_SMALL, Doubt.TOO_BLURRED,
            report=SCRIPT,
        ),
        entry(root, odd, "without an answer", None, Doubt.NO_SCORE, duration_s=None, faces=0),
        entry(root, "c.mp4", "fake", 0.999, duration_s=3.0),
    ]  # fmt: skip
    index_page.write(root / "index.html", entries, RUN, made_utc="2026-01-02T03:04:05", workers=1)
    return root


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as chromium:
        yield chromium


class Reader:
    """Somebody who looks at the page; what it asks for and complains of is written down."""

    def __init__(self, browser, root, **options):
        self.page = browser.new_context(
            viewport={"width": 1200, "height": 900}, **options
        ).new_page()
        self.asked, self.said = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.goto((root / "index.html").as_uri())

    def names(self):
        """Return the names that are seen, in the order in which they are seen."""
        cards = [card for card in self.page.locator(".card").all() if card.is_visible()]
        placed = [(card.bounding_box(), card.locator("bdi").inner_text()) for card in cards]
        return [name for box, name in sorted(placed, key=lambda p: (p[0]["y"], p[0]["x"]))]

    def read_aloud(self):
        """Return what a screen reader says, with what CSS writes."""
        session = self.page.context.new_cdp_session(self.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        return [n["name"]["value"] for n in nodes if n["role"]["value"] == "InlineTextBox"]


SHOWN_HOSTILE = HOSTILE.replace("\u202e", "\\u202e") + ".mp4"
SHOWN_SCRIPT = f"{SCRIPT}.mp4"
BY_SCORE = ["c.mp4", "sub/a.mp4", SHOWN_HOSTILE, SHOWN_SCRIPT, "b.mp4", "caf\\xe9.mp4"]


def test_the_page_sorts(case, browser):
    reader = Reader(browser, case)
    assert reader.names() == BY_SCORE
    for order, wanted in (
        ("innocence", ["b.mp4", SHOWN_SCRIPT, SHOWN_HOSTILE, "sub/a.mp4", "c.mp4", "caf\\xe9.mp4"]),
        ("name", [SHOWN_HOSTILE, "b.mp4", "c.mp4", "caf\\xe9.mp4", SHOWN_SCRIPT, "sub/a.mp4"]),
        ("asked", ["b.mp4", "sub/a.mp4", SHOWN_HOSTILE, SHOWN_SCRIPT, "caf\\xe9.mp4", "c.mp4"]),
        ("suspicion", BY_SCORE),
    ):
        reader.page.check(f"#order-{order}")
        assert reader.names() == wanted, order
    reader.page.check("#order-length")
    names = reader.names()
    assert (names[:2], names[-1]) == (["b.mp4", "c.mp4"], "caf\\xe9.mp4")


def test_the_page_filters_by_verdict_and_doubt(case, browser):
    reader = Reader(browser, case)
    reader.page.uncheck("#show-fake")
    reader.page.uncheck("#show-none")
    assert reader.names() == BY_SCORE[2:5]
    reader.page.check("#doubt-face_too_small")
    assert reader.names() == BY_SCORE[2:4]
    reader.page.check("#doubt-too_blurred")
    assert reader.names() == [SHOWN_SCRIPT]
    reader.page.check("#doubt-clear")
    assert reader.names() == ["b.mp4"]
    reader.page.check("#show-fake")
    assert reader.names() == ["c.mp4", "sub/a.mp4", "b.mp4"]
    assert "3 of 6 shown" in "".join(reader.read_aloud())
    counts = reader.page.locator("fieldset").first.inner_text().split()
    assert " ".join(counts) == "Show fake 2 real 1 inconclusive 2 without an answer 1"


def test_the_page_works_without_scripts_and_asks_for_nothing(case, browser):
    reader = Reader(browser, case, java_script_enabled=False, offline=True)
    assert reader.names() == BY_SCORE
    reader.page.check("#order-asked")
    assert reader.names()[0] == "b.mp4"
    reader = Reader(browser, case)
    assert reader.page.title() == "unmask: 6 videos"  # no name ran
    assert reader.asked == [(case / "index.html").as_uri()]
    assert reader.said == []  # the policy had nothing to refuse
    # Pictures are there, and their pixels are seen.
    widths = "[...document.images].map(image => image.naturalWidth)"
    assert reader.page.evaluate(widths) == [128, 128]
    text = (case / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "<script" not in text
    assert str(case) not in text  # where the files lie


def test_links_lead_to_the_reports_whatever_their_names(case, browser):
    for name, shown in ((HOSTILE, SHOWN_HOSTILE), (SCRIPT, SHOWN_SCRIPT)):
        reader = Reader(browser, case)
        reader.page.get_by_role("link", name=shown, exact=True).click()
        assert reader.page.title() == "report"
        assert reader.page.url == (case / "pages" / f"{name}.html").as_uri()
    reader = Reader(browser, case)
    assert reader.page.get_by_role("link").count() == 2


def test_the_page_is_known_again_and_no_report_is_taken_for_it(case):
    assert provenance.is_index(case / "index.html")
    assert not provenance.is_page(case / "index.html")
    assert not provenance.is_index(case / "pages" / f"{SCRIPT}.html")


ROW = {
    "path": "a.mp4", "verdict": "fake", "probability": 0.9, "doubts": [], "reason": None,
    "worst": [{"time_s": 1.5, "face": 0}], "faces": [{}, {}], "duration_s": 3.0,
}  # fmt: skip


def test_an_entry_is_made_of_a_row_of_json_or_csv():
    found = Entry.of(ROW, None)
    assert (found.outcome, found.worst_s, found.faces) == ("fake", 1.5, 2)
    found = Entry.of(
        ROW | {"probability": None, "verdict": "inconclusive", "doubts": ["no_score"],
               "reason": "no_face", "worst": [], "faces": 0, "duration_s": None}, Path("p.html"),
    )  # fmt: skip
    assert (found.outcome, found.doubts, found.faces) == ("without an answer", ("no_score",), 0)


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("verdict", "true"), ("probability", "high"), ("doubts", ["</style>"]), ("doubts", None),
        ("worst", [[]]), ("worst", [{"time_s": "0"}]), ("duration_s", True), ("faces", None),
    ],
)  # fmt: skip
def test_a_row_that_was_damaged_is_one_line(name, odd):
    with pytest.raises(UnmaskError, match=r"^a\.mp4: asked to list its answer") as raised:
        Entry.of(ROW | {name: odd}, None)
    assert "\n" not in str(raised.value)
