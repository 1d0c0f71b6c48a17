"""`make install` ends with a clip that is read, or says that it can't be."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from unmask.cli import check_install
from unmask.errors import UnmaskError

ROOT = Path(__file__).parents[2]


def test_what_is_installed_here_reads_its_clip(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from unmask.cli.check_install import main; main()"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_clip_that_is_read_otherwise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    dark = [np.full((64, 96, 3), 3, np.uint8)] * 5
    monkeypatch.setattr(check_install, "_paint", lambda: iter(dark))
    with pytest.raises(UnmaskError, match=r"\[40, 80, 120, 160, 200\]; read \[3, 3, 3, 3, 3\]"):
        check_install.check()


def test_make_install_is_done_only_after_the_check() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("$(INSTALLED):")[2].partition("\n\n")[0]
    lines = [line.strip() for line in recipe.splitlines()]
    assert lines[-2:] == [
        "$(BIN)/python -P -c 'from unmask.cli.check_install import main; main()'",
        "touch $@",
    ]


def test_what_install_compiles_is_there() -> None:
    listed = (ROOT / "Makefile").read_text().partition("SLOW_IMPORTS =")[2].partition("\n\n")[0]
    names = re.findall(r"[\w.]+", listed)
    assert {"lightning", "mlflow.models", "openvino"} <= set(names)
    roots = {name.partition(".")[0] for name in names}
    assert [name for name in roots if find_spec(name) is None] == []


def test_the_check_needs_no_torch() -> None:
    code = "import sys, unmask.cli.check_install; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
