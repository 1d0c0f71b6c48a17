"""What a job's program leaves of its failure, where the service looks for it."""

from pathlib import Path

import pytest

from unmask.errors import UnmaskError
from unmask.sagemaker import program


def test_a_line_for_the_user_is_all_that_is_left(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended, program.telling(tmp_path, "message", "failure"):
        raise UnmaskError("Asked for a; found b\udcff. Do c.")
    assert ended.value.code == "error: Asked for a; found b\udcff. Do c."
    for name in ("message", "failure"):
        # A video's name may hold bytes that are no UTF-8.
        assert (tmp_path / "output" / name).read_text() == r"Asked for a; found b\udcff. Do c."


def test_a_failure_that_nobody_foresaw_leaves_its_reason_first(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), program.telling(tmp_path, "failure"):
        1 / 0  # noqa: B018
    first, *rest = (tmp_path / "output/failure").read_text().splitlines()
    assert first == "ZeroDivisionError: division by zero"
    assert "Traceback (most recent call last):" in rest


def test_a_good_end_leaves_nothing(tmp_path: Path) -> None:
    with program.telling(tmp_path, "failure"):
        pass
    assert not (tmp_path / "output").exists()
