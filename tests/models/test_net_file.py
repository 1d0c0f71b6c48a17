"""The portable net in a model's folder: written, changed, left out."""

import hashlib

import pytest

from unmask.errors import WeightsError
from unmask.models.net_file import NetFile, net_file_from, read_net, write_net
from unmask.runtime.digests import NET, WEIGHTS


@pytest.fixture
def folder(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    return tmp_path


def test_it_is_read_back_and_named_by_both_digests(folder):
    file = write_net(folder, b"a net")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"a net", b"weights")]
    assert file == NetFile(*digests)
    assert read_net(folder, file) == b"a net"


def test_a_net_of_other_weights_does_not_count(folder):
    file = write_net(folder, b"a net")
    (folder / WEIGHTS).write_bytes(b"others")
    assert read_net(folder, file) is None


def test_a_folder_without_one_has_none(folder):
    assert read_net(folder, None) is None
    assert read_net(folder, NetFile("0" * 64, "1" * 64)) is None


def test_a_changed_net_is_refused(folder):
    file = write_net(folder, b"a net")
    (folder / NET).write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"net\.onnx should have the sha256 .*dvc checkout"):
        read_net(folder, file)
    (folder / NET).unlink()
    (folder / NET).mkdir()
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        read_net(folder, file)


@pytest.mark.parametrize(
    "values", [[], {}, {"sha256": "0" * 64}, {"sha256": "0" * 64, "weights_sha256": "G" * 64},
               {"sha256": 3, "weights_sha256": "0" * 64}],
)  # fmt: skip
def test_settings_that_say_something_else_are_refused(values):
    with pytest.raises(ValueError, match="net"):
        net_file_from(values)


def test_settings_may_say_nothing():
    assert net_file_from(None) is None
