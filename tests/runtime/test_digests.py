"""Digests of a model's folder; that DVC and MLflow have the same is seen in test_model_source."""

import hashlib

from unmask.runtime.digests import dvc_digest, mlflow_digest, model_digest


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_dvc_lists_files_by_their_whole_names(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/b", "a-b"):  # which is their order by parts
        (tmp_path / name).write_text(name)
    rows = [f'{{"md5": "{md5(name)}", "relpath": "{name.decode()}"}}' for name in (b"a-b", b"a/b")]
    assert dvc_digest(tmp_path) == md5(f"[{', '.join(rows)}]".encode()) + ".dir"


def test_only_weights_and_settings_make_another_model(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "checkpoint.json").write_bytes(b"{}")
    lines = f"{sha256(b'w')}  weights.safetensors\n{sha256(b'{}')}  checkpoint.json\n"
    assert model_digest(tmp_path) == sha256(lines.encode())
    whole = mlflow_digest(tmp_path)
    (tmp_path / "MODEL_CARD.md").touch()
    assert model_digest(tmp_path) == sha256(lines.encode())
    assert mlflow_digest(tmp_path) != whole
