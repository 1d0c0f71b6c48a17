"""What a model was calibrated on comes back as it was written, or not at all."""

import hashlib

import numpy as np
import pytest

from unmask.errors import WeightsError
from unmask.models import looks
from unmask.scoring.unlike import QUALITIES, Look

WIDTH = len(QUALITIES)
KNOWN = [Look(np.arange(WIDTH) * 1.0, np.array([0.6, 0.8]), "h264"), Look(
    np.full(WIDTH, np.nan), np.array([1.0, 0.0]), "größe")]  # fmt: skip


def write(folder, content):
    place = folder / looks.FOLDER / looks.LOOKS
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_looks_are_read_back(tmp_path):
    found = looks.read(tmp_path, write(tmp_path, looks.to_bytes(KNOWN)))
    assert [look.codec for look in found] == ["h264", "größe"]
    for look, known in zip(found, KNOWN, strict=True):
        np.testing.assert_array_equal(look.qualities_Q, known.qualities_Q)
        assert look.features_D == pytest.approx(known.features_D)


def test_without_features_there_are_none(tmp_path):
    bare = [Look(look.qualities_Q, None, look.codec) for look in KNOWN]
    found = looks.read(tmp_path, write(tmp_path, looks.to_bytes(bare)))
    assert [look.features_D for look in found] == [None, None]


@pytest.mark.parametrize("content", [b"", b"{}", looks.to_bytes(KNOWN)[:-3]])
def test_what_is_damaged_is_refused_with_the_remedy(tmp_path, content):
    with pytest.raises(WeightsError, match="unmask calibrate"):
        looks.read(tmp_path, write(tmp_path, content))


def test_more_than_can_be_compared_are_refused(tmp_path):
    many = looks.to_bytes(KNOWN * (looks.MOST // 2) + KNOWN[:1])
    with pytest.raises(WeightsError, match="1,001 looks; 1,000 are the most"):
        looks.read(tmp_path, write(tmp_path, many))


def test_another_file_is_refused(tmp_path):
    write(tmp_path, looks.to_bytes(KNOWN))
    with pytest.raises(WeightsError, match="another digest"):
        looks.read(tmp_path, "0" * 64)
    with pytest.raises(WeightsError, match="No such file"):
        looks.read(tmp_path / "elsewhere", "0" * 64)
