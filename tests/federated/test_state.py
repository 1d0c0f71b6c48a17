"""Models that travel: their mean by hand, and files from strangers that must not be believed."""

import json
import pickle
import struct
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from adopted import tiny_adopted
from promised import PROMISE
from safetensors.numpy import save

from unmask.federated import state as federated_state
from unmask.federated.samples import FederatedError
from unmask.federated.state import (
    ABOUT,
    MOST_BYTES,
    SETTINGS,
    WEIGHTS,
    About,
    average,
    check_start,
    pack,
    read,
    unpack,
    write_zip,
)
from unmask.models import checkpoint
from unmask.models.adopt import record
from unmask.models.adopt.record import read_origin
from unmask.scoring.verdicts import Limits, limits_from, strictest

LIMITS = Limits(
    fake_from=0.75, real_to=0.25, min_face_px=40.0, min_track_s=1.5, min_sharpness=0.02,
    max_sharpness=0.3, min_brightness=0.2, max_brightness=0.8, max_error_ratio=0.1, reals=16,
    fakes=16, tracks=100,
)  # fmt: skip
MODEL = {"backbone": "x3d_xs", "dropout": 0.5, "weights": "none", "weights_sha256": None}
SETTINGS_OF_ALL = {
    "format": 4, "faces": {"side_px": 64}, "clips": {"frames": 4}, "model": MODEL,
    "temperature": 1.0, "limits": asdict(LIMITS), "run_key": "k",
}  # fmt: skip


def members_of(weights, *, tracks=1, rounds=1, **settings):
    about = {"tracks": tracks, "rounds": rounds, "format": 1}
    return {
        WEIGHTS: save(weights),
        SETTINGS: json.dumps(SETTINGS_OF_ALL | settings).encode(),
        ABOUT: json.dumps(about).encode(),
    }


def state(path, weights, **values):
    write_zip(path, members_of(weights, **values))
    return path


def layers(value, batches):
    """Return a weight, the statistics of a batch normalisation, and its count of batches."""
    return {
        "conv.weight": np.full((2, 3), value, np.float32),
        "norm.running_mean": np.array([value, 10 * value], np.float32),
        "norm.running_var": np.array([1 + value], np.float32),
        "norm.num_batches_tracked": np.array(batches, np.int64),
    }


def test_files_are_named_as_a_models_folder_names_them():
    assert (WEIGHTS, SETTINGS) == (checkpoint.WEIGHTS, checkpoint.SETTINGS)
    assert federated_state.ORIGIN_KEY == record.ORIGIN_KEY


def test_a_mean_counts_tracks_and_holds_batch_statistics(tmp_path):
    one = state(tmp_path / "a", layers(1.0, 7), tracks=1, temperature=2.0)
    stricter = replace(LIMITS, fake_from=0.9, real_to=None, tracks=7)
    other = state(
        tmp_path / "b", layers(5.0, 4), tracks=3, temperature=4.0, run_key="j",
        limits=asdict(stricter),
    )  # fmt: skip
    average([one, other], tmp_path / "mean")
    mean = read(tmp_path / "mean")
    assert mean.weights["conv.weight"].tolist() == [[4.0] * 3] * 2  # (1 + 3 * 5) / 4
    assert mean.weights["norm.running_mean"].tolist() == [4.0, 40.0]
    assert mean.weights["norm.running_var"].tolist() == [5.0]
    assert mean.weights["norm.num_batches_tracked"] == 7
    assert mean.weights["conv.weight"].dtype == np.float32
    assert mean.settings["temperature"] == 3.5
    assert limits_from(mean.settings["limits"]) == strictest([LIMITS, stricter])
    assert mean.settings["run_key"] not in ("j", "k")
    assert mean.about == About(tracks=4, rounds=1)


def test_nobody_vouches_for_a_mean(tmp_path):
    promise = asdict(PROMISE)
    one = state(tmp_path / "a", layers(1.0, 7), promise=promise)
    other = state(tmp_path / "b", layers(5.0, 4), promise=promise)
    average([one, other], tmp_path / "mean")
    assert read(tmp_path / "a").settings["promise"] == json.loads(json.dumps(promise))
    assert "promise" not in read(tmp_path / "mean").settings


def test_a_mean_of_one_is_itself_and_the_order_does_not_count(tmp_path):
    rng = np.random.default_rng(3)
    paths = [
        state(tmp_path / str(n), {"w": rng.normal(size=99).astype(np.float32)}, tracks=n + 1)
        for n in range(3)
    ]
    average(paths[:1], tmp_path / "one")
    assert (read(tmp_path / "one").weights["w"] == read(paths[0]).weights["w"]).all()
    average(paths, tmp_path / "forth")
    average(paths[::-1], tmp_path / "back")
    assert (tmp_path / "forth").read_bytes() == (tmp_path / "back").read_bytes()


def test_a_models_folder_comes_out_as_it_went_in(tmp_path):
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / WEIGHTS).write_bytes(save(layers(1.0, 1)))
    (model / SETTINGS).write_text(json.dumps(SETTINGS_OF_ALL))
    (model / "MODEL_CARD.md").write_text("412 real videos of ours")
    pack(model, tmp_path / "state", About(5, 2))
    assert unpack(tmp_path / "state", out).about == About(5, 2)
    assert sorted(path.name for path in out.iterdir()) == sorted([WEIGHTS, SETTINGS])
    assert (out / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()
    assert b"412" not in (tmp_path / "state").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"clips": {"frames": 8}},
        {"faces": {"side_px": 65}},
        {"model": MODEL | {"backbone": "x3d_m"}},
        {"format": 2},
    ],
)
def test_models_of_other_settings_have_no_mean(tmp_path, other):
    one = state(tmp_path / "a", layers(1.0, 1))
    two = state(tmp_path / "b", layers(1.0, 1), **other)
    with pytest.raises(FederatedError, match=f"differ in {next(iter(other))}"):
        average([one, two], tmp_path / "mean")


def test_where_the_start_came_from_may_differ(tmp_path):
    one = state(tmp_path / "a", layers(1.0, 1))
    moved = MODEL | {"weights": "start/weights.safetensors"}
    two = state(tmp_path / "b", layers(3.0, 1), model=moved)
    average([one, two], tmp_path / "mean")
    assert read(tmp_path / "mean").weights["conv.weight"][0, 0] == 2.0


@pytest.mark.parametrize("weights", [{"w": np.zeros(2, np.float32)}, {"v": np.zeros(3, np.float32)},
                                     {"w": np.zeros(3, np.float64)}])  # fmt: skip
def test_tensors_that_differ_have_no_mean(tmp_path, weights):
    one = state(tmp_path / "a", {"w": np.zeros(3, np.float32)})
    with pytest.raises(FederatedError, match="names, shapes or types differ"):
        average([one, state(tmp_path / "b", weights)], tmp_path / "mean")


def test_nothing_has_no_mean(tmp_path):
    with pytest.raises(FederatedError, match="found none"):
        average([], tmp_path / "mean")


# ---------------------------------------------------------------- hostile files


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def huge_header():
    return struct.pack("<Q", 2**60) + b"{}"


GOOD = members_of(layers(1.0, 1))
HOSTILE = {
    "another file": GOOD | {"evil.py": b"print(1)"},
    "a path that leaves": {f"../{WEIGHTS}": GOOD[WEIGHTS], SETTINGS: b"{}", ABOUT: b"{}"},
    "no weights": {SETTINGS: GOOD[SETTINGS], ABOUT: GOOD[ABOUT]},
    "a pickle": GOOD | {WEIGHTS: pickle.dumps({"w": Bomb()})},
    "a header that lies": GOOD | {WEIGHTS: huge_header()},
    "an empty file of weights": GOOD | {WEIGHTS: b""},
    "NaN": members_of({"w": np.array([1.0, np.nan], np.float32)}),
    "infinity": members_of({"w": np.array([1.0, np.inf], np.float32)}),
    "no tracks": members_of(layers(1.0, 1), tracks=0),
    "a negative weight": members_of(layers(1.0, 1), tracks=-5),
    "a weight above all": members_of(layers(1.0, 1), tracks=10**18),
    "half a track": members_of(layers(1.0, 1), tracks=0.5),
    "a truth as tracks": members_of(layers(1.0, 1), tracks=True),
    "endless rounds": members_of(layers(1.0, 1), rounds=10**9),
    "no number as temperature": members_of(layers(1.0, 1), temperature="1"),
    "a temperature of NaN": GOOD | {
        SETTINGS: json.dumps(SETTINGS_OF_ALL | {"temperature": float("nan")}).encode()
    },
    "no limits": members_of(layers(1.0, 1), limits=None),
    "limits that are words": members_of(layers(1.0, 1), limits="wide"),
    "a limit beyond all": members_of(layers(1.0, 1), limits=asdict(LIMITS) | {"fakes": 10**400}),
    "a limit that is a word": members_of(layers(1.0, 1), limits=asdict(LIMITS) | {"fakes": "1"}),
    "a model that is none": members_of(layers(1.0, 1), model="x3d_xs"),
    "no JSON": GOOD | {ABOUT: b"tracks: 1"},
    "nested JSON": GOOD | {SETTINGS: b"[" * 100_000},
    "another key": GOOD | {ABOUT: b'{"tracks": 1, "rounds": 1, "format": 1, "run": "rm"}'},
    "another format": GOOD | {ABOUT: b'{"tracks": 1, "rounds": 1, "format": 2}'},
    "too much text": GOOD | {ABOUT: b" " * (MOST_BYTES[ABOUT] + 1)},
}  # fmt: skip


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_state_is_refused_and_nothing_of_it_is_kept(tmp_path, monkeypatch, members):
    monkeypatch.chdir(tmp_path)
    write_zip(tmp_path / "state", members)
    with pytest.raises(FederatedError, match="Nothing of it was used"):
        unpack(tmp_path / "state", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_zip_that_grows_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "state", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in GOOD.items():
            packed.writestr(name, content)
    with pytest.raises(FederatedError, match="is compressed"):
        read(tmp_path / "state")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    write_zip(tmp_path / "state", GOOD)
    twice = pytest.warns(UserWarning, match="Duplicate")
    with zipfile.ZipFile(tmp_path / "state", "a") as packed, twice:
        packed.writestr(WEIGHTS, b"")
    with pytest.raises(FederatedError, match="it holds"):
        read(tmp_path / "state")


def test_a_long_list_of_members_is_not_read(tmp_path):
    """Zipfile makes an object of each: the list is refused by what the zip's last bytes say."""
    write_zip(tmp_path / "state", GOOD)
    whole = (tmp_path / "state").read_bytes()
    end = bytearray(whole[-22:])
    for place, value, said in (
        (10, 50_000, "it holds 50,000 members"),  # entries, in two bytes
        (12, 2**16 - 1, "it holds 3 members, listed in 65,535 bytes"),  # bytes of the list
    ):
        lying = end.copy()
        lying[place : place + 2] = value.to_bytes(2, "little")
        (tmp_path / "state").write_bytes(whole[:-22] + lying)
        with pytest.raises(FederatedError, match=said):
            read(tmp_path / "state")
    # A larger list still, which a record before the end points at.
    (tmp_path / "state").write_bytes(whole[:-22] + b"PK\6\7" + bytes(16) + end)
    with pytest.raises(FederatedError, match="does not end like a zip"):
        read(tmp_path / "state")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_state_is_refused(tmp_path, share):
    write_zip(tmp_path / "state", GOOD)
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FederatedError, match="refused"):
        read(tmp_path / "state")


def test_damaged_weights_are_refused(tmp_path):
    write_zip(tmp_path / "state", GOOD)
    content = bytearray((tmp_path / "state").read_bytes())
    place = content.find(save(layers(1.0, 1))[-20:])
    content[place] ^= 255
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(FederatedError, match="Bad CRC-32"):
        read(tmp_path / "state")


def test_a_state_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setitem(federated_state.MOST_BYTES, WEIGHTS, 10)
    write_zip(tmp_path / "state", GOOD)
    with pytest.raises(FederatedError, match=r"weights.safetensors has \d+ bytes"):
        read(tmp_path / "state")


def test_the_mean_of_models_that_began_as_anothers_says_so(tmp_path):
    adopted = tiny_adopted(tmp_path / "a")
    origin = adopted.adopted
    assert origin is not None
    began_as = origin.model_dump(mode="json")
    one, two = (
        state(tmp_path / name, layers(value, 1), began_as=began_as)
        for name, value in (("one", 1.0), ("two", 2.0))
    )
    average([one, two], tmp_path / "mean")
    assert read(tmp_path / "mean").settings["began_as"] == began_as
    unpack(tmp_path / "mean", tmp_path / "model")
    assert read_origin(tmp_path / "model" / WEIGHTS) == origin
    other = state(tmp_path / "other", layers(1.0, 1), began_as=began_as | {"title": "Another"})
    with pytest.raises(FederatedError, match="differ in began_as"):
        average([one, other], tmp_path / "none")


def test_a_side_and_colours_that_were_recorded_do_not_part_rounds_of_a_net_of_timms():
    ours = {name: SETTINGS_OF_ALL[name] for name in ("faces", "clips", "model")}
    ours = ours | {"clips": {"frames": 4, "side_px": None}}
    recorded = {"colours": {"mean": [0.5] * 3, "deviation": [0.5] * 3}, "unit_features": True}
    theirs = {**SETTINGS_OF_ALL, "clips": {"frames": 4, "side_px": 224}, "model": MODEL | recorded}
    check_start(ours, theirs)
    with pytest.raises(FederatedError, match="differ in clips"):
        check_start(ours | {"clips": {"frames": 4, "side_px": 96}}, theirs)
    with pytest.raises(FederatedError, match="differ in clips"):
        check_start(ours, {**theirs, "model": MODEL})  # X3D records no side


def test_an_adopted_model_travels(tmp_path):
    adopted = tiny_adopted(tmp_path / "a")
    pack(tmp_path / "a/model", tmp_path / "state", About(1, 1))
    unpack(tmp_path / "state", tmp_path / "b")
    assert checkpoint.load(tmp_path / "b")[1] == adopted
    ours = {name: SETTINGS_OF_ALL[name] for name in ("faces", "clips", "model")}
    with pytest.raises(FederatedError, match="differ in faces, clips, model"):
        check_start(ours, read(tmp_path / "state").settings)
