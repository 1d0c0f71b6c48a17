"""Digests of a model's folder, against those who use them."""

import hashlib
import subprocess

import yaml

from unmask.digests import dvc_digest, mlflow_digest, model_digest


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_folders_md5_is_what_dvc_writes(tmp_path):
    for name in ("model/a/b.bin", "model/a.bin", "model/a-b.bin", "model/é.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for command in (["init", "--no-scm", "--quiet"], ["add", "--quiet", "model"]):
        subprocess.run(["dvc", *command], cwd=tmp_path, check=True)
    [out] = yaml.safe_load((tmp_path / "model.dvc").read_text())["outs"]
    assert dvc_digest(tmp_path / "model") == out["md5"]


def test_only_weights_and_settings_make_another_model(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "checkpoint.json").write_bytes(b"{}")
    lines = f"{sha256(b'w')}  weights.safetensors\n{sha256(b'{}')}  checkpoint.json\n"
    assert model_digest(tmp_path) == sha256(lines.encode())
    whole = mlflow_digest(tmp_path)
    (tmp_path / "MODEL_CARD.md").touch()
    assert model_digest(tmp_path) == sha256(lines.encode())
    assert mlflow_digest(tmp_path) != whole
