"""What dvc.lock and DVC's settings say: asked of DVC, in small repositories of the test's own."""

from hashlib import md5
from pathlib import Path

import pytest
from small_project import run

from unmask.storage.blobs import StorageError, Store, StoredFile
from unmask.storage.dvc_files import files_at, files_of, remote
from unmask.storage.s3 import Remote

pytestmark = pytest.mark.slow

GRAPH = """stages:
  raw:
    cmd: mkdir -p raw/wild/videos && printf a > raw/wild/videos/a.mp4 && printf b > raw/list
    outs: [raw/wild/videos, raw/list]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    return tmp_path


def test_files_have_the_digests_of_dvc_lock(root: Path) -> None:
    with pytest.raises(StorageError, match=r"dvc.lock has it; it has none. Run `dvc repro raw`"):
        files_of(root, {"raw/list": "raw"})
    run(root, "dvc", "repro", "--quiet")
    found = files_of(root, {"raw/wild/videos": "raw", "raw/list": "raw"})
    assert found == [
        StoredFile("raw/wild/videos/a.mp4", md5(b"a").hexdigest(), 1),
        StoredFile("raw/list", md5(b"b").hexdigest(), 1),
    ]
    stages, path = {Path("raw/wild/videos"): "raw"}, Path("raw/wild/videos/a.mp4")
    assert files_at(root, [path], stages) == {path: found[0]}
    lost = path.with_name("c.mp4")
    with pytest.raises(StorageError, match=r"c.mp4 as dvc.lock has it; .* `dvc repro raw` first"):
        files_at(root, [path, lost], stages)
    (root / "raw/wild/videos/b.mp4").write_text("new")
    with pytest.raises(StorageError, match=r"the files there differ. Run `dvc repro raw` first"):
        files_of(root, {"raw/wild/videos": "raw"})


def test_a_remote_in_s3_is_found_with_the_place_of_its_server(root: Path) -> None:
    assert remote(root) is None
    config = root / ".dvc/config"
    lines = config.read_text() + "    remote = shared\n['remote \"shared\"']\n"
    config.write_text(lines + "    url = s3://unmask/faces/\n")
    assert remote(root) == Remote(Store("unmask", "faces/files/md5"))
    config.write_text(
        lines + "    url = s3://unmask\n    endpointurl = http://minio:9000\n    region = x\n"
    )
    assert remote(root) == Remote(Store("unmask", "files/md5"), "http://minio:9000", "x")
    config.write_text(lines + "    url = s3://unmask\n    version_aware = true\n")
    assert remote(root) is None
    config.write_text(lines + "    url = /mnt/shared\n")
    assert remote(root) is None


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Asked DVC for the remote of"):
        remote(tmp_path)
    with pytest.raises(StorageError, match="Asked DVC for the files in"):
        files_of(tmp_path, {"raw": "raw"})
