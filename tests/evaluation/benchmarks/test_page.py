"""The page holds all it shows, asks for nothing, and shows strangers' words as words."""

import re
from html.parser import HTMLParser
from pathlib import Path

import detectors
import pytest

from unmask.evaluation.benchmarks import compare, gather, page
from unmask.params import Evaluate

HOSTILE = "<script>alert(1)</script>\u202e\x1b[2J"


class Tags(HTMLParser):
    """Takes down tags, and what is open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href")
        ]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def text(tmp_path: Path) -> str:
    for benchmark in ("celeb", "dfdc"):
        detectors.put(
            tmp_path, "model", detectors.GOOD, benchmark=benchmark, version=HOSTILE,
            licence=HOSTILE, trained_on=("dfdc", HOSTILE),
        )  # fmt: skip
        detectors.put(tmp_path, "other", detectors.POOR, benchmark=benchmark, scale="ranking")
    detectors.put_looks(tmp_path)
    settings = Evaluate(bootstrap_resamples=30, seed=1)
    found = [compare.compare(gather.read(tmp_path, name), settings) for name in ("celeb", "dfdc")]
    return page.render(found)


def test_a_page_is_whole_and_asks_for_nothing(text: str) -> None:
    tags = Tags(text)
    assert not tags.open
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(tags.tags)
    assert set(tags.links) == {"#b1", "#b2"}
    assert "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'" in text
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "://" not in text


def test_strangers_words_are_words(text: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\x1b[2J" in text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_it_says_the_numbers_and_draws_them(text: str) -> None:
    assert text.count('d="M0 400 0 100 100 100 100 0 400 0"') == 2  # the model's ROC, twice
    assert "<b>0.938</b>" in text
    assert len(re.findall('class="fakes"', text)) == 4  # two detectors on two benchmarks
    assert "face px, the more" in text
    assert "nan" not in text.lower()
    assert text.count("†") >= 3  # the model saw dfdc
    assert "8 videos, 4 real and 4 fake, of 4 people" in text


def test_one_detector_on_one_benchmark_has_a_page(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    benchmark = gather.read(tmp_path, "celeb")
    text = page.render([compare.compare(benchmark, Evaluate(bootstrap_resamples=10, seed=1))])
    assert not Tags(text).open
    assert "How well 1 detector tells fake videos" in text
    assert "All benchmarks" not in text


def test_what_is_said_of_a_detector_in_two_ways_stands_twice(tmp_path: Path) -> None:
    for benchmark, version in (("celeb", "v1"), ("dfdc", "v2")):
        detectors.put(tmp_path, "x", detectors.GOOD, benchmark=benchmark, version=version)
    settings = Evaluate(bootstrap_resamples=10, seed=1)
    found = [compare.compare(gather.read(tmp_path, name), settings) for name in ("celeb", "dfdc")]
    text = page.render(found)
    assert "How well 1 detector tells" in text
    assert '<td class="words">v1</td>' in text
    assert '<td class="words">v2</td>' in text


def test_a_detector_without_any_score_has_a_row(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    detectors.put(tmp_path, "blind", [None] * 8)
    benchmark = gather.read(tmp_path, "celeb")
    text = page.render([compare.compare(benchmark, Evaluate(bootstrap_resamples=10, seed=1))])
    assert "<bdi>blind</bdi>" in text
    assert "<td>0.0%</td>" in text
