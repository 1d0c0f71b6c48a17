"""Models from repositories of a Hub on loopback: fetched whole, kept, and refused by name."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import COMMIT, Commit, Hub, ask_only, serve_hub
from small_model import write_small_model

from unmask.answers import hub_model, model_source
from unmask.errors import DiskError, UnmaskError, WeightsError
from unmask.runtime.digests import model_digest

NAMES = {
    "weights.safetensors": "weights.safetensors",
    "net.onnx": "net.onnx",
    "checkpoint.json": "checkpoint.json",
    "README.md": "MODEL_CARD.md",
}
CALIBRATED = NAMES | {
    name: name
    for name in (
        "calibration/looks.safetensors", "calibration/checkpoint.json", "calibration/MODEL_CARD.md",
    )
}  # fmt: skip
NEXT = "f" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with a model in ada/detector, and an empty cache."""
    model = write_small_model(tmp_path / "model")
    files = {name: model / here for name, here in NAMES.items()}
    with serve_hub(Hub({"ada/detector": files}, gated={"ada/secret"})) as hub:
        ask_only(hub, tmp_path / "cache", monkeypatch)
        yield hub


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "unmask"


@pytest.fixture
def no_pauses(monkeypatch):
    """The client pauses between its attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def have(name, cache):
    return model_source.named(name, None, cache=cache)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def left(cache):
    """Return what a failure left that could be taken for a model."""
    return [path.name for path in cache.rglob("checkpoint.json")]


def test_a_model_is_fetched_once_and_then_needs_no_hub(hub, cache, tmp_path):
    folder = have("hf:ada/detector", cache)
    assert contents(folder) == contents(tmp_path / "model")
    assert hub_model.source_of(folder, cache) == f"hf:ada/detector@{COMMIT}"
    hub.asked.clear()
    assert have(f"hf:ada/detector@{COMMIT}", cache) == folder
    assert hub.asked == []
    assert have("hf:ada/detector", cache) == folder  # main is asked for, and no file of it
    assert [path for _, path in hub.asked] == ["api/models/ada/detector"]


def test_no_other_folder_is_taken_for_the_hubs(cache, tmp_path):
    stranger = tmp_path / "models" / "hub" / "ada--detector" / COMMIT
    assert hub_model.source_of(stranger, cache) is None
    assert hub_model.source_of(cache / "models" / "sha256-1", cache) is None


def test_a_calibrated_model_brings_its_calibration(hub, cache, tmp_path):
    model = write_small_model(tmp_path / "calibrated", calibrated=True)
    hub.repositories["ada/other"] = {name: model / here for name, here in CALIBRATED.items()}
    folder = have("hf:ada/other", cache)
    assert contents(folder) == contents(model)
    assert model_digest(folder) == model_digest(model)


def test_a_branch_is_followed_and_its_commit_is_remembered(hub, cache, tmp_path, monkeypatch):
    first = contents(have("hf:ada/detector", cache))
    newer = write_small_model(tmp_path / "newer", seed=2)
    files = {name: (newer / here).read_bytes() for name, here in NAMES.items()}
    hub.pushed["ada/detector"] = [Commit(NEXT, files, "better")]
    second = have("hf:ada/detector", cache)
    assert second.name == NEXT
    assert contents(second) == contents(newer)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert have("hf:ada/detector", cache) == second
    assert contents(have(f"hf:ada/detector@{COMMIT}", cache)) == first


@pytest.mark.parametrize("off", ["no network", "forbidden"])
@pytest.mark.usefixtures("hub")
def test_without_a_network_what_was_fetched_answers_and_says_so(cache, monkeypatch, caplog, off):
    folder = have("hf:ada/detector", cache)
    if off == "no network":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with caplog.at_level(logging.WARNING, "unmask"):
        assert have("hf:ada/detector", cache) == folder
    assert f"commit {COMMIT}, fetched before" in caplog.text
    for never in ("hf:ada/other", "hf:ada/detector@v2", f"hf:ada/detector@{NEXT}"):
        with pytest.raises(WeightsError, match="It was not fetched before") as told:
            have(never, cache)
        assert str(told.value).startswith(f"Asked the Hub for {never}; ")


@pytest.mark.usefixtures("hub")
def test_a_damaged_copy_is_fetched_again(cache, tmp_path, monkeypatch):
    folder = have("hf:ada/detector", cache)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    assert contents(have(f"hf:ada/detector@{COMMIT}", cache)) == contents(tmp_path / "model")
    (folder / "planted.py").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="or is damaged"):
        have(f"hf:ada/detector@{COMMIT}", cache)


@pytest.mark.usefixtures("no_pauses")
def test_a_download_that_broke_off_goes_on_where_it_was(hub, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # it has 10 MB
    hub.cut_off_at = 1000
    with pytest.raises(WeightsError, match="Type the same again: what has arrived is kept"):
        have("hf:ada/detector", cache)
    [part] = cache.rglob(".*.part")
    assert part.stat().st_size == 1000
    hub.cut_off_at = None
    hub.ranges.clear()
    assert contents(have("hf:ada/detector", cache)) == contents(tmp_path / "model")
    assert hub.ranges == ["bytes=1000-"]
    assert list(cache.rglob("*.part*")) == []


@pytest.mark.usefixtures("no_pauses")
def test_what_arrived_before_is_not_asked_for_again(hub, cache):
    hub.cut_off_at = 1000  # the settings have more, so their first bytes alone arrive
    with pytest.raises(WeightsError):
        have("hf:ada/detector", cache)
    hub.cut_off_at = 1300
    settings = hub.repositories["ada/detector"]["checkpoint.json"].stat().st_size
    assert 1000 < settings < 1300 < 1600  # and the weights have some 1,700
    with pytest.raises(WeightsError):
        have("hf:ada/detector", cache)
    hub.cut_off_at = None
    hub.asked.clear()
    have("hf:ada/detector", cache)
    assert not [path for _, path in hub.asked if path.endswith("checkpoint.json")]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:ada/secret", "gives it only to those who asked"),
        ("hf:ada/none", "no such repository, or shows it only to those who may see it"),
        ("hf:ada/detector@nobranch", "no such commit, branch or tag"),
        ("hf:ada", "is named hf:OWNER/NAME"),
        ("hf:../../etc", "is named hf:OWNER/NAME"),
        ("hf:ada/detector@../../x", "is named hf:OWNER/NAME"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_can_not_be_had_is_said(cache, name, said):
    with pytest.raises(WeightsError, match=said):
        have(name, cache)
    assert left(cache) == []


def test_a_private_model_needs_a_token_and_it_goes_nowhere_else(hub, cache, monkeypatch):
    hub.tokens, hub.private = {"hf_right"}, {"ada/detector"}
    with pytest.raises(WeightsError, match=r"set HF_TOKEN or run `hf auth login`\.$"):
        have("hf:ada/detector", cache)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(WeightsError, match="does not accept the token") as told:
        have("hf:ada/detector", cache)
    assert "hf_wrong" not in str(told.value)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    files = {"ada/detector": hub.repositories["ada/detector"]}
    with serve_hub(Hub(files)) as elsewhere:  # as the Hub's large files lie at a CDN
        hub.elsewhere = elsewhere.address
        folder = have("hf:ada/detector", cache)
    assert elsewhere.asked
    assert elsewhere.sent_tokens == []
    assert not any(b"hf_right" in path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert folder.name == COMMIT


@pytest.mark.parametrize("token", ["hf_ab\x01cd", "hf_…"])
@pytest.mark.usefixtures("hub")
def test_a_token_that_is_none_is_not_repeated(cache, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(WeightsError, match="characters that no token has") as told:
        have("hf:ada/detector", cache)
    assert "hf_" not in str(told.value)


@pytest.mark.usefixtures("hub")
def test_an_address_that_others_can_read_is_not_asked(cache, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.ENDPOINT", "http://ann:pass@hub.example.org/?token=x"
    )
    with pytest.raises(
        WeightsError, match=r"http://hub\.example\.org.*no address by https"
    ) as told:
        have("hf:ada/detector", cache)
    assert "pass" not in str(told.value)


def test_another_content_than_the_hub_lists_is_refused_and_deleted(hub, cache, tmp_path):
    right = (tmp_path / "model" / "weights.safetensors").read_bytes()
    hub.served_instead["weights.safetensors"] = right[:-1] + b"\x99"
    with pytest.raises(WeightsError, match=r"weights\.safetensors of .* another digest than"):
        have("hf:ada/detector", cache)
    assert list(cache.rglob("*.part")) == []
    hub.served_instead["weights.safetensors"] = right + b"more"
    with pytest.raises(WeightsError, match="more came than"):
        have("hf:ada/detector", cache)
    del hub.served_instead["weights.safetensors"]
    assert contents(have("hf:ada/detector", cache)) == contents(tmp_path / "model")


def test_small_files_are_checked_too(hub, cache):
    right = hub.repositories["ada/detector"]["checkpoint.json"].read_bytes()
    hub.served_instead["checkpoint.json"] = right.replace(b"1.5", b"9.5")
    with pytest.raises(WeightsError, match=r"checkpoint\.json of .* another digest than"):
        have("hf:ada/detector", cache)


def change(hub, tmp_path, **new):
    """Change values of the settings in the repository."""
    path = tmp_path / "changed.json"
    old = json.loads(hub.repositories["ada/detector"]["checkpoint.json"].read_text())
    path.write_text(json.dumps(old | new))
    hub.repositories["ada/detector"]["checkpoint.json"] = path


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"format": 4}, "has the format 4, and this version reads 5"),
        ({"format": None}, "has the format None"),
        ({"temperature": -1}, r"is not what unmask writes: temperature should be a number above 0"),
        ({"start": {}}, "a training can start from, and no model"),
        ({"net": {"sha256": "0" * 64, "weights_sha256": "1" * 64}}, "names the sha256 of weights"),
    ],
)
def test_settings_of_another_kind_are_said(hub, cache, tmp_path, new, said):
    change(hub, tmp_path, **new)
    with pytest.raises(WeightsError, match=said) as told:
        have("hf:ada/detector", cache)
    assert str(cache) not in str(told.value)
    assert not [path for _, path in hub.asked if path.endswith("weights.safetensors")]


def test_files_of_two_models_are_not_taken_for_one(hub, cache, tmp_path):
    other = write_small_model(tmp_path / "other", seed=5)
    hub.repositories["ada/detector"]["net.onnx"] = other / "net.onnx"
    with pytest.raises(WeightsError, match=r"names the sha256 of net\.onnx, which has"):
        have("hf:ada/detector", cache)


def test_published_weights_are_sent_to_adopt(hub, cache, tmp_path):
    config = tmp_path / "config.json"
    config.write_text("{}")
    hub.repositories["ada/published"] = {
        "config.json": config, "model.safetensors": tmp_path / "model" / "weights.safetensors"
    }  # fmt: skip
    with pytest.raises(WeightsError, match=r"has 'model\.safetensors'.*unmask adopt hf:ada/publ"):
        have("hf:ada/published", cache)
    hub.repositories["ada/text"] = {"config.json": config}
    with pytest.raises(WeightsError, match=r"checkpoint\.json is not there\. Name another one"):
        have("hf:ada/text", cache)


def test_a_pickle_is_never_fetched(hub, cache, tmp_path, caplog):
    evil = tmp_path / "evil"
    evil.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    hub.repositories["ada/detector"] |= {"pytorch_model.bin": evil, "x.py": evil}
    with caplog.at_level(logging.WARNING, "unmask"):
        folder = have("hf:ada/detector", cache)
    assert "also holds 'pytorch_model.bin', a kind of file that may run code" in caplog.text
    assert contents(folder) == contents(tmp_path / "model")
    change(hub, tmp_path, net=None)
    hub.repositories["ada/detector"]["weights.safetensors"] = evil
    shutil.rmtree(cache)
    with pytest.raises(WeightsError, match="no file of safetensors"):
        have("hf:ada/detector", cache)
    assert not (cache / "models/hub/ada--detector" / COMMIT).exists()


def test_names_of_a_strangers_files_are_no_paths(hub, cache, tmp_path):
    for name in ("../../../escaped", "/etc/escaped", "calibration/../../escaped", "c:\\escaped"):
        hub.repositories["ada/detector"][name] = tmp_path / "model" / "MODEL_CARD.md"
    before = set(tmp_path.rglob("*"))
    folder = have("hf:ada/detector", cache)
    assert contents(folder) == contents(tmp_path / "model")
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "cache") for path in new)
    assert not [path for _, path in hub.asked if "escaped" in path]


@pytest.mark.parametrize(
    "listed",
    [
        {"rfilename": "net.onnx", "lfs": {"sha256": "a" * 64, "size": 2**40, "pointerSize": 1}},
        {"rfilename": "README.md", "size": 2**30, "blobId": "a" * 40},
    ],
)  # fmt: skip
def test_a_file_larger_than_any_models_is_not_fetched(hub, cache, listed):
    hub.listed_besides = [listed]
    with pytest.raises(WeightsError, match=r"more than the .* that it may have"):
        have("hf:ada/detector", cache)
    assert [path for _, path in hub.asked] == ["api/models/ada/detector"]


@pytest.mark.parametrize(
    "listed",
    [
        {"rfilename": "weights.safetensors", "size": 5},
        {"rfilename": "weights.safetensors", "size": -1, "blobId": "a" * 40},
        {"rfilename": "weights.safetensors", "size": "5", "blobId": "../../x"},
        {
            "rfilename": "weights.safetensors",
            "lfs": {"sha256": "../x", "size": 5, "pointerSize": 1},
        },
    ],
)  # fmt: skip
def test_a_file_without_a_digest_is_as_if_it_were_not_there(hub, cache, listed):
    hub.listed_besides = [listed]
    with pytest.raises(WeightsError, match=r"weights\.safetensors is not there"):
        have("hf:ada/detector", cache)


@pytest.mark.parametrize("broken", [b"", b"<html>", b"[]", b'{"siblings": 5}', b'{"sha": "../x"}'])
@pytest.mark.usefixtures("hub")
def test_an_answer_that_is_none_of_the_hubs_is_one_line(cache, monkeypatch, broken):
    import huggingface_hub

    class Answer:
        status_code, headers, content = 200, {}, broken

        def raise_for_status(self):
            pass

        def json(self):
            return json.loads(broken)

    client = huggingface_hub.get_session()
    monkeypatch.setattr(client, "get", lambda *_, **__: Answer())
    with pytest.raises(WeightsError, match=r"does not understand|names no commit"):
        have("hf:ada/detector", cache)


def test_a_hub_that_is_down_is_said(hub, cache):
    hub.failing["api/models"] = 503
    with pytest.raises(WeightsError, match=r"does not answer now \(status 503\)"):
        have("hf:ada/detector", cache)


# ---------------------------------------------------------------- the disk


def test_a_disk_without_room_is_said_before_anything_is_fetched(hub, cache, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DiskError, match=r"has room for 100\. Free space there"):
        have("hf:ada/detector", cache)
    assert [path for _, path in hub.asked] == ["api/models/ada/detector"]


@pytest.mark.usefixtures("hub")
def test_a_disk_that_fills_up_meanwhile_is_one_line(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(DiskError, match="No space left on device"):
        have("hf:ada/detector", cache)


@pytest.mark.usefixtures("hub")
def test_a_place_that_can_not_be_written_is_one_line(cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")
    with pytest.raises(UnmaskError, match="Set XDG_CACHE_HOME to a folder"):
        have("hf:ada/detector", cache)


@pytest.mark.usefixtures("hub")
def test_a_pinned_model_that_is_here_needs_no_extra(cache):
    folder = have("hf:ada/detector", cache)
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from pathlib import Path; from unmask.answers import hub_model\n"
        "from unmask.hub.address import parse\n"
        "print(hub_model.resolve(parse(sys.argv[1]), Path(sys.argv[2])))"
    )
    name = f"hf:ada/detector@{COMMIT}"
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(cache)], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == folder


def test_processes_that_fetch_at_once_fetch_it_once(hub, cache):
    code = (
        "import sys; from pathlib import Path\n"
        "from unmask.answers import hub_model; from unmask.hub.address import parse\n"
        "print(hub_model.resolve(parse(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, "hf:ada/detector", str(cache)]
    environment = os.environ | {"HF_ENDPOINT": hub.address}
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    said = [each.communicate(timeout=300)[0].strip() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert said == [str(cache / "models/hub/ada--detector" / COMMIT)] * 2
    fetched = [path for method, path in hub.asked if "resolve" in path and method == "GET"]
    assert len(fetched) == len(NAMES)
