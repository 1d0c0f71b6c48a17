"""How cores and GPUs are shared among shards. No GPU ran these."""

import doctest
import pickle

import pytest
from painted import SETTINGS, load_squares

from unmask.cluster import hardware
from unmask.cluster.hardware import of_cores, of_gpus


def test_docstring_examples_hold():
    result = doctest.testmod(hardware)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("cores", "gpus", "in_all", "each"),
    [(16, 1, 16, 16), (16, 4, 16, 4), (5, 3, 3, 1), (2, 4, 2, 1), (4, 0, 0, 4)],
)
def test_a_shard_has_its_gpu_s_part_of_the_cores(cores, gpus, in_all, each):
    found = of_gpus().shards_on(cores, gpus)
    assert found == (in_all, each)
    assert found[0] // found[1] <= gpus


def test_both_travel_to_nodes():
    for found in (of_cores(load_squares), of_gpus()):
        assert pickle.loads(pickle.dumps(found)).gpus == found.gpus
    with pickle.loads(pickle.dumps(of_cores(load_squares))).open_detector(SETTINGS.detect) as load:
        assert load is load_squares


def test_a_gpu_that_torch_can_t_use_is_named(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "which torch can't use there: install a driver" in of_gpus().fault()
    monkeypatch.setattr("unmask.extras.missing", lambda _: {"train": "torch"})
    assert of_gpus().fault().startswith("it has no torch, which its GPU needs: pip install")
    assert of_cores().fault() == ""
