"""A model's archive is taken in whole and its own, or not at all."""

import gzip
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_account import BUCKET, Service, make_model, pack, running_service

from unmask.models import checkpoint
from unmask.sagemaker import fetch as sagemaker_fetch
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.fetch import fetch, take_in

ROOT = Path(__file__).parents[2]
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make_model(ROOT, tmp_path_factory.mktemp("trained") / "model", KEY)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a model from before."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")
    return folder


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sized(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    return info


def described(**headers: str) -> tarfile.TarInfo:
    """Return a member of which headers in the format of pax say more."""
    info = tarfile.TarInfo("evil")
    info.pax_headers = headers
    return info


def folder_header() -> tarfile.TarInfo:
    """Return the header of the archive's top, which may stand in it."""
    info = tarfile.TarInfo("./")
    info.type = tarfile.DIRTYPE
    return info


def upon_each_other(count: int) -> bytes:
    """Return a whole archive of so many headers, each of which describes the next."""
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * count + bytes(1024))


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {each: content for each, content in files.items() if each != name}


Files = dict[str, bytes]
HOSTILE: dict[str, tuple[Callable[[Files], bytes], str]] = {
    "a way up": (lambda files: pack(files | {"../evil": b"x"}), "no plain file at its top"),
    "a path from the root": (lambda files: pack(files | {"/tmp/evil": b"x"}), "no plain file"),
    "a folder": (lambda files: pack(files | {"code/evil.py": b"x"}), "no plain file"),
    "a link": (
        lambda files: pack(files, link("evil", tarfile.SYMTYPE, "/etc/passwd")), "no plain file",
    ),
    "a hard link": (
        lambda files: pack(files, link("evil", tarfile.LNKTYPE, "../old")), "no plain file",
    ),
    "a device": (lambda files: pack(files, link("evil", tarfile.CHRTYPE, "")), "no plain file"),
    "a name twice": (lambda files: pack(files, sized(checkpoint.CARD, 0)), "one too many"),
    "too many": (
        lambda files: pack(files | {str(n): b"" for n in range(200)}), "one too many",
    ),
    "a claim of much": (lambda files: pack(files, sized("big", 2**32)), "is large"),
    "a bomb": (
        lambda files: pack(files | {"zeros": bytes(2**24)}), "unpacks to more than 30,000,000",
    ),
    "half of it": (lambda files: pack(files)[:-2000], "it is damaged"),
    "no archive": (lambda _: b"<html>", "it is damaged"),
    "a name that ends amid": (
        lambda files: pack(files, described(path="evil\0.py")), "it is damaged .embedded null byte",
    ),
    "no map of holes": (
        lambda files: pack(files, described(**{"GNU.sparse.map": "x", "GNU.sparse.size": "1"})),
        "it is damaged .invalid literal",
    ),
    "a sparse file": (
        lambda files: pack(files, link("evil", tarfile.GNUTYPE_SPARSE, "")), "a sparse file",
    ),
    "a record of pax without end": (
        lambda files: pack(files, described(comment="x" * 100_000)), "a kind no model has",
    ),
    "a size in a record of pax": (
        lambda files: pack(files, described(size="0")), "gives 'evil' another size",
    ),
    "a claim of more": (lambda files: pack(files, sized("big", 2**40)), "another size"),
    "folders without end": (
        lambda _: gzip.compress(folder_header().tobuf() * 2000 + bytes(1024)),
        "more than 1000 headers",
    ),
    "headers of headers": (lambda _: upon_each_other(900), "it is damaged .maximum recursion"),
    "digests without end": (
        lambda files: pack(files | {"digests.json": b"[" * 2000}), "digests.json can't be read",
    ),
    "another file": (lambda files: pack(files | {"more": b"x"}), "names others"),
    "a file less": (
        lambda files: pack(without(files, checkpoint.CARD)), "names others",
    ),
    "no digests": (
        lambda files: pack(without(files, "digests.json")), "can't be read",
    ),
    "digests that are none": (lambda files: pack(files | {"digests.json": b"[]"}), "names others"),
    "a changed file": (
        lambda files: pack(files | {checkpoint.WEIGHTS: b"x"}), "is not what the job wrote",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_a_whole_model_changes_nothing(
    what: str, files: Files, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, words = HOSTILE[what]
    packed = model.parent / "model.tar.gz"
    packed.write_bytes(archive(files))
    monkeypatch.setattr(sagemaker_fetch, "MAX_BYTES", 30_000_000)
    with pytest.raises(JobError, match=words):
        take_in(packed, model, key=KEY)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model", "model.tar.gz"]
    assert [path.read_text() for path in model.iterdir()] == ["old"]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_an_archive_is_taken_in_whoever_packed_it(
    kind: int, files: Files, model: Path, tmp_path: Path
) -> None:
    """As `tar` does: with the folder itself, times in parts of seconds, and owners by name."""
    for name, content in files.items():
        (tmp_path / "packed" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "packed" / name).write_bytes(content)
    with tarfile.open(model.parent / "model.tar.gz", "w:gz", format=kind) as archive:
        archive.add(tmp_path / "packed", ".")
    take_in(model.parent / "model.tar.gz", model, key=KEY)
    assert checkpoint.read_settings(model).run_key == KEY


def test_the_model_of_another_training_is_refused(files: Files, model: Path) -> None:
    packed = model.parent / "model.tar.gz"
    packed.write_bytes(pack(files))
    with pytest.raises(JobError, match="it is of the training aaaaaaaaaaaa, not of bbbbbbbbbbbb"):
        take_in(packed, model, key=OTHER)
    assert [path.name for path in model.iterdir()] == ["old"]
    take_in(packed, model, key=KEY)
    assert checkpoint.read_settings(model).run_key == KEY
    assert {path.name: path.read_bytes() for path in model.iterdir()} == {
        name: content for name, content in files.items() if name != "digests.json"
    }
    assert set(json.loads(files["digests.json"])) == {path.name for path in model.iterdir()}


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as found:
        yield found


def test_an_archive_that_is_too_large_is_not_downloaded(
    files: Files, model: Path, service: Service
) -> None:
    s3 = service.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    archive = pack(files)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive)
    address = f"s3://{BUCKET}/model.tar.gz"
    with pytest.raises(JobError, match=f"it has {len(archive):,} bytes, a model at most 1,000"):
        fetch(s3, address, model, key=KEY, most_bytes=1000)
    fetch(s3, address, model, key=KEY)
    assert checkpoint.read_settings(model).run_key == KEY
