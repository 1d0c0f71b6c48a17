"""The comparison as text says its numbers, and lets no stranger's name draw or compute."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import detectors
import pytest

from unmask.evaluation.benchmarks import compare, gather, page, table
from unmask.evaluation.benchmarks.compared import Compared, Difference
from unmask.params import Evaluate

SETTINGS = Evaluate(bootstrap_resamples=30, seed=1)


@pytest.fixture
def both(tmp_path: Path) -> list[Compared]:
    for benchmark in ("celeb", "dfdc"):
        detectors.put(
            tmp_path, "model", detectors.GOOD, benchmark=benchmark, trained_on=("sample",)
        )
        detectors.put(
            tmp_path,
            "other",
            detectors.POOR,
            benchmark=benchmark,
            trained_on=("dfdc", "a|b\x1b[2J"),
        )
    detectors.put_looks(tmp_path)
    return [compare.compare(gather.read(tmp_path, name), SETTINGS) for name in ("celeb", "dfdc")]


def test_the_terminal_has_every_detector_in_line(both: list[Compared]) -> None:
    text = table.for_terminal(both)
    blocks = {block.split("\n")[0]: block.split("\n")[1:] for block in text.split("\n\n")}
    title = "celeb: 8 videos, 4 real and 4 fake, of 4 sources"
    header, model, other, *plain = blocks[title]
    assert header.split() == ["detector", "AUC", "frame", "AUC", "AP", "EER"]
    assert model.startswith("model ")
    assert model.split()[1] == "0.938"
    assert len({len(line) for line in (header, model, other)}) == 1
    assert len(plain) == 4
    across = blocks["AUC across benchmarks"]
    assert across[0].split()[:3] == ["detector", "celeb", "dfdc"]
    assert "†" in across[2]
    assert across[2].rstrip().endswith("of 1")
    assert "\x1b" not in text


def test_markdown_shows_names_as_they_are(both: list[Compared]) -> None:
    text = table.as_markdown(both)
    assert "| model | 0.938" in text
    assert r"dfdc, a\|b\\x1b\[2J" in text
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert all(line.count("|") - line.count(r"\|") >= 3 for line in rows)


def test_the_csv_has_every_number_in_full(both: list[Compared]) -> None:
    rows = list(csv.DictReader(io.StringIO(table.as_csv(both))))
    assert tuple(rows[0]) == table.CSV_COLUMNS

    def find(**wanted: str) -> dict[str, str]:
        (found,) = [row for row in rows if wanted.items() <= row.items()]
        return found

    whole = {"benchmark": "celeb", "detector": "model", "by": ""}
    assert find(**whole, measure="roc_auc")["value"] == "0.9375"
    assert find(**whole, measure="coverage")["value"] == "1.0"
    swap = find(benchmark="celeb", detector="model", by="method", group="swap")
    assert (swap["value"], swap["videos"]) == ("1.0", "6")
    apart = find(benchmark="celeb", detector="other", measure="roc_auc_minus_first")
    # Of the poor one's pairs .3 wins 2, .9 wins 4, .4 wins 2 and .7 wins 4: 12 of 16.
    assert float(apart["value"]) == pytest.approx(12 / 16 - 15 / 16)
    assert 0 < float(apart["p"]) < 1
    assert find(benchmark="celeb", detector="face_px", measure="roc_auc")["kind"] == "no detector"
    mean = find(benchmark="", detector="other")
    assert mean["measure"] == "mean_roc_auc_of_unseen"
    assert (
        mean["value"]
        == find(benchmark="celeb", detector="other", measure="roc_auc", by="")["value"]
    )


def test_what_is_small_is_told_apart_from_nothing(tmp_path: Path) -> None:
    for place, p in ((None, "-"), (0.0004, "<0.001"), (0.0444, "0.044")):
        detectors.put(tmp_path, "model", detectors.GOOD)
        (row,) = compare.compare(gather.read(tmp_path, "celeb"), SETTINGS).rows
        auc = {"value": 0.1, "low": None, "high": None}
        assert table.p_cell(replace(row, to_first=Difference(8, auc, place))) == p
    assert table.trained_cell(row) == "?"


def test_a_title_says_whose_test_videos_they_are(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    benchmark = replace(gather.read(tmp_path, "celeb"), chosen="official protocol x, version 1")
    found = [compare.compare(benchmark, Evaluate(bootstrap_resamples=10, seed=1))]
    wanted = "4 real and 4 fake, of 4 sources (official protocol x, version 1)"
    assert wanted in table.for_terminal(found)
    assert wanted in table.as_markdown(found)
    assert "of 4 people or recordings (official protocol x, version 1)." in page.render(found)
