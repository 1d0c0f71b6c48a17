"""What a page draws is where the numbers are."""

import re
from dataclasses import replace
from pathlib import Path

import detectors
import numpy as np
import pytest

from unmask.evaluation.benchmarks import compare, drawing, gather
from unmask.evaluation.benchmarks.compared import Row
from unmask.params import Evaluate


def row_of(tmp_path: Path, numbers: tuple[float, ...], **options: str) -> Row:
    detectors.put(tmp_path, "model", numbers, **options)  # type: ignore[arg-type]
    benchmark = gather.read(tmp_path, "celeb")
    return compare.compare(benchmark, Evaluate(bootstrap_resamples=20, seed=1)).rows[0]


def test_a_roc_goes_through_its_corners_alone(tmp_path: Path) -> None:
    # Above 0.6 are three fakes; then comes a real video, then the last fake, then three real ones.
    curve = drawing.curve_of(row_of(tmp_path, detectors.GOOD), 9)
    assert curve is not None
    assert curve.path == "M0 400 0 100 100 100 100 0 400 0"
    assert (curve.look, curve.dash) == (1, 1)  # the ninth's colour came before: it is dashed
    tied = drawing.curve_of(row_of(tmp_path, (0.5,) * 8), 0)
    assert tied is not None
    assert tied.path == "M0 400 400 0"


def test_many_points_that_nobody_could_see_go(tmp_path: Path) -> None:
    rng, row = np.random.default_rng(1), row_of(tmp_path, detectors.GOOD)
    labels = (np.arange(100_000) % 2).astype(np.int64)
    curve = drawing.curve_of(replace(row, labels_M=labels, ranks_M=rng.normal(labels)), 0)
    assert curve is not None
    assert len(curve.path) < 40_000
    points = re.findall(r"([\d.]+) ([\d.]+)", curve.path)
    assert points[0] == ("0", "400")
    assert points[-1] == ("400", "0")


def test_an_interval_lies_on_its_axis(tmp_path: Path) -> None:
    row = row_of(tmp_path, detectors.GOOD)
    strip = drawing.strip_of({"value": 0.75, "low": 0.5, "high": 1.0}, (0.5, 1.0))
    assert strip == drawing.Strip(60.0, 4.0, 116.0, 4.0)
    assert drawing.strip_of({"value": None, "low": None, "high": None}, (0.5, 1.0)) is None
    benchmark = gather.read(tmp_path, "celeb")
    found = compare.compare(benchmark, Evaluate(bootstrap_resamples=20, seed=1))
    low = row.measures["roc_auc"]["low"]
    assert low is not None
    assert drawing.axis_of(found) == (min(0.5, np.floor(low * 10) / 10), 1.0)


def test_a_histogram_has_fakes_above_and_real_videos_below(tmp_path: Path) -> None:
    found = drawing.histogram_of(row_of(tmp_path, (0.0,) * 4 + (1.0,) * 4))
    assert found is not None
    assert found.fakes.endswith("V0.0h10V46z")  # all in the last bin, to the top
    assert found.reals.startswith("M0 46V92.0h10V46.0")  # all in the first, to the bottom
    assert (found.low, found.high) == ("0", "1")


@pytest.mark.parametrize("numbers", [(-1e308, 1e308) * 4, (7.0,) * 8])
def test_any_range_of_a_ranking_is_drawn(numbers: tuple[float, ...], tmp_path: Path) -> None:
    found = drawing.histogram_of(row_of(tmp_path, numbers, scale="ranking"))
    assert found is not None
    assert "nan" not in found.fakes + found.reals


def test_the_shade_of_an_auc_begins_at_chance() -> None:
    values = (None, 0.2, 0.5, 0.77, 1.0)
    shades = [drawing.shade_of({"value": v, "low": None, "high": None}) for v in values]
    assert shades == [0, 0, 0, 5, 10]
