"""Worker processes of pytest-xdist share what the first of them has made."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_once import made_once


def factory_of(worker: Path) -> Any:
    worker.mkdir(exist_ok=True)
    return SimpleNamespace(getbasetemp=lambda: worker)


def test_the_first_makes_it_and_the_other_waits(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        time.sleep(0.1)  # the other asks meanwhile
        with (folder / "makers").open("a") as makers:
            makers.write("one more\n")

    def ask(worker: str) -> Path:
        folder = made_once(factory_of(tmp_path / worker), worker, "thing", make)
        assert (folder / "makers").read_text() == "one more\n"
        return folder

    with ThreadPoolExecutor() as both:
        folders = set(both.map(ask, ("gw0", "gw1")))
    assert folders == {tmp_path / "thing-made-once"}


def test_what_a_failure_left_is_thrown_away(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the disk is full")

    factory = factory_of(tmp_path)
    with pytest.raises(OSError, match="full"):
        made_once(factory, "master", "thing", fail)
    folder = made_once(factory, "master", "thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
