"""Hyperparameters and files arrive as they were sent, or a sentence says what did not."""

import json
import re
from pathlib import Path

import pytest

from unmask import params
from unmask.errors import ParamsError
from unmask.runtime.disk import content_digest
from unmask.runtime.record_files import epoch_line
from unmask.sagemaker import contract

ROOT = Path(__file__).parents[2]
KEY = "0" * 64


@pytest.fixture
def wanted() -> contract.JobParams:
    return contract.job_params(params.load(ROOT / "params.yaml"), KEY)


def test_params_arrive_as_they_were_sent(wanted: contract.JobParams) -> None:
    sent = contract.hyperparameters(wanted)
    assert sent["train.epochs"] == str(wanted.train.epochs)
    assert sent["model.backbone"] == f'"{wanted.model.backbone}"'
    assert contract.read_hyperparameters(sent) == wanted


def test_metrics_are_found_in_an_epochs_line() -> None:
    row = {"epoch": 12, "train_loss": 0.25, "val_loss": float("nan"), "val_auc": 0.75}
    found = {name: re.findall(regex, epoch_line(row)) for name, regex in contract.METRICS.items()}
    assert found == {
        "epoch": ["12"], "train_loss": ["0.250000"], "val_loss": [], "val_auc": ["0.750000"],
    }  # fmt: skip
    bar = "Epoch 12: 100%|##| 2/2 [00:01<00:00, train_loss=0.25, val_auc=0.750]"
    assert not any(re.findall(regex, bar) for regex in contract.METRICS.values())


def test_all_that_a_training_reads_is_sent(wanted: contract.JobParams) -> None:
    sent = wanted.model_dump()
    settings = params.load(ROOT / "params.yaml").model_dump()
    assert {name: sent[name] for name in sent if name != "key"} == {
        name: settings[name] for name in sent if name != "key"
    }
    assert len(contract.hyperparameters(wanted)) <= 100


def test_a_value_that_is_too_long_is_refused(wanted: contract.JobParams) -> None:
    many = wanted.model_copy(update={"chunks": tuple(f"dfdc_train_part_{n}" for n in range(200))})
    with pytest.raises(contract.JobError, match=r"chunks is to be sent .* at most 2500 .* found"):
        contract.hyperparameters(many)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train.epochs": "eight"}, "train.epochs should be a value in JSON; found 'eight'"),
        ({"train.epochs": "0"}, "train.epochs: Input should be greater"),
        ({"train.epoch": "3"}, "train.epoch: Extra inputs"),
        ({"key": '"x"'}, "key: String should match"),
        ({"train.seed": "[" * 2000}, "Hyperparameter train.seed should be a value"),
        ({"train": "3"}, "train: Input should be"),
    ],
)
def test_what_the_image_does_not_know_is_named(
    change: dict[str, str], words: str, wanted: contract.JobParams
) -> None:
    with pytest.raises(ParamsError, match=words):
        contract.read_hyperparameters(contract.hyperparameters(wanted) | change)


def test_a_number_in_a_sections_place_is_named_whatever_comes_first(
    wanted: contract.JobParams,
) -> None:
    with pytest.raises(ParamsError, match="train: Input should be"):
        contract.read_hyperparameters({"train": "3"} | contract.hyperparameters(wanted))


def test_a_missing_hyperparameter_is_named(wanted: contract.JobParams) -> None:
    sent = contract.hyperparameters(wanted)
    del sent["train.seed"]
    with pytest.raises(ParamsError, match=r"train.seed: Field required"):
        contract.read_hyperparameters(sent)


# ---------------------------------------------------------------- files

HELLO = contract.StoredFile("faces/a/1.mp4", "5d41402abc4b2a76b9719d911017c592", 5)


def fill_store(store: Path, content: bytes = b"hello") -> None:
    (store / HELLO.stored).parent.mkdir(parents=True)
    (store / HELLO.stored).write_bytes(content)


def test_files_lie_where_the_listing_says(tmp_path: Path) -> None:
    fill_store(tmp_path / "store")
    twin = contract.StoredFile("faces/b/2.mp4", HELLO.md5, 5)
    (tmp_path / contract.LISTING_NAME).write_text(contract.listing_text([twin, HELLO]))
    files = contract.read_listing(tmp_path / contract.LISTING_NAME)
    assert files == [HELLO, twin]
    for _ in range(2):  # a second start finds them there
        contract.lay_out(files, [tmp_path / "store"], tmp_path / "root", workers=2)
    paths = [tmp_path / "root" / file.path for file in files]
    assert [path.read_bytes() for path in paths] == [b"hello", b"hello"]
    assert content_digest(paths[0]) == content_digest(tmp_path / "store" / HELLO.stored)


def test_content_that_is_missing_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(contract.JobError, match=r"faces/a/1.mp4: asked for its content.*no file"):
        contract.lay_out([HELLO], [tmp_path / "store"], tmp_path / "root", workers=1)
    fill_store(tmp_path / "store", b"hallo")
    with pytest.raises(contract.JobError, match=r"asked for content of MD5 5d41402.*found 598d4c2"):
        contract.lay_out([HELLO], [tmp_path / "store"], tmp_path / "root", workers=1)
    assert not (tmp_path / "root" / HELLO.path).exists()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ""])
def test_a_path_outside_is_refused(path: str, tmp_path: Path) -> None:
    listing = tmp_path / contract.LISTING_NAME
    listing.write_text(json.dumps([{"path": path, "md5": HELLO.md5, "size_bytes": 5}]))
    with pytest.raises(contract.JobError, match=r"no path in a checkout.* Look who may write"):
        contract.read_listing(listing)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}x", '[{"path": "a"}]', "[" * 2000, '[{"path": 3, "md5": "0", "size_bytes": 1}]',
        '[{"path": "a", "md5": ["../"], "size_bytes": 1}]',
    ],
)  # fmt: skip
def test_a_damaged_listing_is_refused(text: str, tmp_path: Path) -> None:
    listing = tmp_path / contract.LISTING_NAME
    listing.write_text(text)
    with pytest.raises(contract.JobError, match="none that can be read"):
        contract.read_listing(listing)


def test_no_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(contract.JobError, match="none that can be read"):
        contract.read_listing(tmp_path / contract.LISTING_NAME)
