"""The formulas, against numbers that the standards print or that follow from them by hand."""

import numpy as np
import pytest

from unmask.video import light
from unmask.video.light import Mapping, Primaries, Transfer


def test_pq_has_the_light_that_its_standard_prints() -> None:
    # BT.2100, note 5a: 0.58 is 203 cd/m²; BT.2408, table 1: 58 %. 0.508 is 100, and 1 is 10 000.
    assert light.pq_to_nits(np.array([0.0, 1.0])) == pytest.approx([0, 10_000])
    assert light.pq_to_nits(np.array([0.5081, 0.5807])) == pytest.approx([100, 203], rel=0.002)
    nits = np.array([0.01, 1, 48, 203, 1000, 10_000])
    assert light.pq_to_nits(light.nits_to_pq(nits)) == pytest.approx(nits)


def test_hlg_s_75_percent_is_the_reference_white() -> None:
    scene = light.hlg_to_scene(np.array([0.0, 0.5, 0.75, 1.0]))
    assert scene == pytest.approx([0, 1 / 12, 0.2650, 1], abs=1e-4)
    assert 1000 * scene[2] ** 1.2 == pytest.approx(203, abs=0.5)  # BT.2408, table 1


def test_the_matrix_from_bt2020_is_bt2087_s() -> None:
    expected = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    assert light.to_bt709(Primaries.BT2020) == pytest.approx(np.array(expected), abs=2e-4)


@pytest.mark.parametrize("primaries", sorted(set(Primaries) - {Primaries.UNSPECIFIED}))
def test_white_stays_white_in_all_primaries(primaries: Primaries) -> None:
    assert light.to_bt709(primaries) @ np.ones(3) == pytest.approx(np.ones(3))
    if primaries == Primaries.BT709:
        assert light.to_bt709(primaries) == pytest.approx(np.eye(3), abs=1e-12)


def test_tone_mapping_keeps_what_is_below_the_knee_and_brings_the_peak_to_white() -> None:
    # Of 1000 cd/m² in 203: PQ's 0.5807 / 0.7518 = 0.7724 is white, 1.5 * 0.7724 - 0.5 = 0.6585 the
    # knee, and its PQ 0.6585 * 0.7518 = 0.4951 is 88 cd/m².
    below = np.array([0.0, 1, 20, 80])
    assert light.tone_map(below, 1000) == pytest.approx(below)
    above = light.tone_map(np.array([95.0, 203, 500, 1000]), 1000)
    assert np.all(np.diff(above) > 0)
    assert 80 < above[0] < 95
    assert above[-1] == pytest.approx(light.WHITE_NITS)
    assert light.tone_map(np.array([5000.0]), 1000) == pytest.approx(light.WHITE_NITS)


def test_a_programme_that_goes_no_further_than_white_is_not_compressed() -> None:
    nits = np.array([1.0, 100, 203])
    assert light.tone_map(nits, 203) == pytest.approx(nits)


def show(mapping: Mapping, *rgb: float) -> list[int]:
    numbers = np.rint(np.array(rgb) * mapping.white).astype(np.uint16)
    shown_HW3 = mapping.show(np.broadcast_to(numbers[:, None, None], (3, 5, 4)))
    assert shown_HW3.shape == (5, 4, 3)
    assert np.all(shown_HW3 == shown_HW3[0, 0])
    return [int(code) for code in shown_HW3[0, 0]]


def test_dark_and_bright_greys_are_what_a_screen_shows_for_their_light() -> None:
    hlg = Mapping(Transfer.HLG, Primaries.BT2020, 65280)
    assert show(hlg, 0, 0, 0) == [0, 0, 0]
    assert show(hlg, 1, 1, 1) == [255, 255, 255]
    # 0.5 is 1/12 of the scene and 1000 / 12 ** 1.2 = 50.7 cd/m², below the knee:
    # 255 * (50.7 / 203) ** (1 / 2.4) = 143.
    assert show(hlg, 0.5, 0.5, 0.5) == [143, 143, 143]
    # Dark: 0.1 is 0.01 / 3 of the scene, 1.065 cd/m², 255 * 0.00525 ** (1 / 2.4) = 28.6.
    assert show(hlg, 0.1, 0.1, 0.1) == [29, 29, 29]
    pq = Mapping(Transfer.PQ, Primaries.BT2020, 65280)
    # 0.4 is 32.46 cd/m²: 255 * (32.46 / 203) ** (1 / 2.4) = 118.9.
    assert show(pq, 0.4, 0.4, 0.4) == [119, 119, 119]
    assert show(pq, 1, 1, 1) == [255, 255, 255]


def test_greys_of_wide_gamut_sdr_stay_as_they_are() -> None:
    for transfer in (Transfer.BT709, Transfer.SRGB, Transfer.GAMMA22, Transfer.GAMMA28):
        mapping = Mapping(transfer, Primaries.DISPLAY_P3, 65280)
        for level in (0, 5, 60, 128, 255):
            assert show(mapping, *[level / 255] * 3) == [level] * 3


def test_the_red_of_p3_is_more_than_bt709_has() -> None:
    mapping = Mapping(Transfer.SRGB, Primaries.DISPLAY_P3, 65280)
    assert show(mapping, 1, 0, 0) == [255, 0, 0]
    # sRGB's 200, 120, 100 in P3: light 0.5776, 0.1878, 0.1274; by the matrix (1.2249, -0.2249, 0;
    # -0.0421, 1.0421, 0; -0.0196, -0.0786, 1.0983) 0.6653, 0.1714, 0.1138; sRGB 212.98, 115, 95.
    assert show(mapping, 200 / 255, 120 / 255, 100 / 255) == [213, 115, 95]


def test_linear_light_is_shown_by_the_screen_s_curve() -> None:
    # 255 * 0.18 ** (1 / 2.4) = 124.8
    mapping = Mapping(Transfer.LINEAR, Primaries.BT709, 65535)
    assert show(mapping, 0.18, 0.18, 0.18) == [125, 125, 125]


def test_a_part_of_a_picture_comes_out_as_in_the_whole() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 65536, (3, 200, 333)).astype(np.uint16)
    mapping = Mapping(Transfer.HLG, Primaries.BT2020, 65280)
    whole = mapping.show(numbers)
    assert np.array_equal(mapping.show(numbers[:, 37:151, 101:230]), whole[37:151, 101:230])
