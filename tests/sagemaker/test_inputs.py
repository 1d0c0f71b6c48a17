"""What a job's two lists say. What DVC and S3 hold is asked in test_sagemaker.py, of both."""

import json
from pathlib import Path

import pytest

from unmask.sagemaker.contract import JobError
from unmask.sagemaker.inputs import find_files, manifest_text, own_store, text_name
from unmask.storage.blobs import StorageError, Store, StoredFile

HELLO = "5d41402abc4b2a76b9719d911017c592"


def test_the_manifest_names_each_content_once() -> None:
    store = own_store("jobs", "ann/unmask")
    assert store == Store("jobs", "ann/unmask/files/md5")
    twins = [StoredFile("a", HELLO, 5), StoredFile("b", HELLO, 5), StoredFile("c", "0" * 32, 1)]
    assert json.loads(manifest_text(store, twins)) == [
        {"prefix": "s3://jobs/ann/unmask/files/md5/"},
        f"00/{'0' * 30}",
        f"5d/{HELLO[2:]}",
    ]


def test_a_list_is_named_by_its_content() -> None:
    assert text_name("lists", "hello", "listing.json") == f"lists/{HELLO}/listing.json"


def test_weights_outside_of_the_checkout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "checkout/.dvc").mkdir(parents=True)
    (tmp_path / "checkout/.dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "weights.pt").write_bytes(b"x")
    for weights in ("../weights.pt", str(tmp_path / "weights.pt")):
        with pytest.raises(JobError, match="which is not in this checkout"):
            find_files(tmp_path / "checkout", [], weights)


def test_weights_from_the_web_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    with pytest.raises(JobError, match="which a job would have to fetch from the web"):
        find_files(tmp_path, [], "kinetics400")


def test_a_folder_that_dvc_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Asked DVC for the files"):
        find_files(tmp_path, ["wild"], "none")


def test_a_models_folder_stands_for_the_weights_in_it(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "adopted/cf").mkdir(parents=True)
    (tmp_path / "adopted/cf/weights.safetensors").write_bytes(b"hello")
    expected = [StoredFile("adopted/cf/weights.safetensors", HELLO, 5)]
    for weights in ("adopted/cf", "adopted/cf/", "adopted/cf/weights.safetensors"):
        assert find_files(tmp_path, [], weights) == expected
