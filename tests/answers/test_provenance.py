"""Digests and metrics that tie an answer to its model."""

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import time
from contextlib import closing

import mlflow
import pytest
import yaml

from unmask.answers import provenance
from unmask.runtime.digests import dvc_digest


@pytest.fixture
def evaluated(tmp_path):
    """A model, its metrics, and the dvc.lock of `dvc commit` on a stage that reads and writes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.safetensors").write_bytes(b"weights")
    (tmp_path / "model/z.json").write_text("{}")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/test.json").write_text('{"videos": 3}')
    stage = {
        "cmd": "true", "deps": ["model"], "outs": [{"metrics/test.json": {"cache": False}}]
    }  # fmt: skip
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": stage}}))
    for command in (["dvc", "init", "--no-scm", "-q"], ["dvc", "commit", "-f", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_a_comparison_counts_only_with_the_model_in_it(evaluated):
    def ask(text=None):
        if text is not None:
            (evaluated / "metrics/comparison.json").write_text(text)
        return provenance.read_comparison(evaluated, evaluated / "model")

    assert "There is no metrics/comparison.json" in ask().remark
    rows = [{"model_md5": "another.dir"}, {"model_md5": dvc_digest(evaluated / "model")}]
    assert ask(json.dumps({"rows": rows})).values == {"rows": rows, "this": 1}
    found = ask(json.dumps({"rows": rows[:1]}))
    assert found.values is None
    assert "is of other models" in found.remark
    for broken in ("{", "[]", "{}", '{"rows": [1]}'):
        assert "can't be read" in ask(broken).remark


def test_metrics_count_only_where_dvc_says_that_they_are_the_models(evaluated):
    model, lock = evaluated / "model", evaluated / "dvc.lock"
    assert provenance.read_metrics(evaluated, model, "test").values == {"videos": 3}
    assert provenance.read_metrics(evaluated, model, "robustness").values is None
    (model / "z.json").write_text("{ }")
    assert provenance.read_metrics(evaluated, model, "test").values is None
    (model / "z.json").write_text("{}")
    (evaluated / "metrics/test.json").write_text('{"videos": 4}')
    assert provenance.read_metrics(evaluated, model, "test").values is None
    (evaluated / "metrics/test.json").write_text('{"videos": 3}')
    for broken in ("[", "- a list", "stages: 3"):
        lock.write_text(broken)
        assert provenance.read_metrics(evaluated, model, "test").values is None


def test_a_run_is_found_in_mlflows_file_alone(tmp_path):
    store = tmp_path / "a folder" / "mlflow.db"
    store.parent.mkdir()
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    runs = [
        client.create_run("0", tags={"unmask.run": key}, start_time=when)
        for when, key in enumerate(("k1", "k2", "k2", "k2", "k2"))
    ]
    for run in runs[:-1]:  # the last one is under way
        client.set_terminated(run.info.run_id)
    client.delete_run(runs[-2].info.run_id)
    found = [
        provenance.collect(tmp_path, run_key=key, command=["a"], mlflow_db=store).mlflow_run
        for key in ("k2", "k3")
    ]
    assert found == [runs[2].info.run_id, None]
    for bad in (tmp_path / "gone.db", tmp_path / "text.db"):
        (tmp_path / "text.db").write_text("no database, but of some length" * 40)
        origin = provenance.collect(tmp_path, run_key="k2", command=["a"], mlflow_db=bad)
        assert origin.mlflow_run is None
    assert not (tmp_path / "gone.db").exists()


def test_what_git_and_dvc_say_is_kept(tmp_path):
    (tmp_path / "dvc.lock").write_bytes(b"schema: '2.0'\n")
    outside = provenance.collect(
        tmp_path, run_key="k", command=["unmask", "a\udcff"], mlflow_db=None
    )
    assert (outside.git_commit, outside.git_dirty) == (None, None)
    assert outside.dvc_lock_sha256 == hashlib.sha256(b"schema: '2.0'\n").hexdigest()
    assert outside.command == r"unmask a\xff"
    assert json.dumps(outside.packages).count("torch") >= 2
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    inside = provenance.collect(tmp_path, run_key="k", command=[], mlflow_db=None)
    assert (len(inside.git_commit), inside.git_dirty) == (40, False)


def test_a_card_is_read_in_chapters(tmp_path):
    assert provenance.read_card(tmp_path) == ()
    (tmp_path / "MODEL_CARD.md").write_text(
        "# x3d_xs\n\nintro\n\n## Data\n\nTwo\nlines of `code`.\n\n"
        "| a | b |\n| --- | ---: |\n| 1 | x 2, y 3 |\n\n## Known limits\n\n"
        "- one\n- two\n  goes on\n"
    )
    data, limits = provenance.read_card(tmp_path)
    assert data.blocks == (
        ("text", "Two lines of `code`."), ("table", [["a", "b"], ["1", "x 2, y 3"]]),
    )  # fmt: skip
    assert limits == provenance.CardSection("Known limits", (("list", ["one", "two goes on"]),))


def test_a_cards_head_is_not_shown(tmp_path):
    (tmp_path / "MODEL_CARD.md").write_text(
        "---\nlicense: mit\n## Known limits\nnote: '\n\n## Data\n\nfrom the head'\n---\n"
        "# x\n\n## Data\n\nfrom the body\n"
    )
    [data] = provenance.read_card(tmp_path)
    assert data == provenance.CardSection("Data", (("text", "from the body"),))


# ---------------------------------------------------------------- a stranger's files


ENDLESS = """
CREATE VIEW endless AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
SELECT x AS run_uuid, 'active' AS lifecycle_stage, 'FINISHED' AS status, 0 AS start_time FROM c;
CREATE VIEW mine AS SELECT 1 AS run_uuid, 'unmask.run' AS key, 'k' AS value;
"""


@pytest.mark.parametrize(
    "schema",
    [
        ENDLESS.replace("endless", "runs").replace("mine", "tags"),
        # Tables, so large that the question takes for ever: every pair is looked at.
        "CREATE TABLE runs (run_uuid, lifecycle_stage, status, start_time);"
        "CREATE TABLE tags (run_uuid, key, value);"
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)"
        "INSERT INTO runs SELECT '', 'active', 'FINISHED', x FROM c;"
        "INSERT INTO tags SELECT '', 'unmask.run', 'k' FROM runs;",
    ],
    ids=["views", "pairs"],
)
def test_a_database_that_never_answers_is_given_up(tmp_path, schema):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.executescript(schema)
        store.commit()
    started_s = time.monotonic()
    found = provenance.collect(None, run_key="k", command=[], mlflow_db=tmp_path / "mlflow.db")
    assert found.mlflow_run is None
    assert time.monotonic() - started_s < 30  # it is given 2 s; other work shares the cores


def test_pipes_and_large_files_beside_a_model_are_not_waited_for(evaluated):
    model = evaluated / "model"
    for path in (model / "MODEL_CARD.md", evaluated / "metrics/comparison.json"):
        os.mkfifo(path)
    assert provenance.read_card(model) == ()
    assert provenance.read_comparison(evaluated, model).values is None
    (evaluated / "dvc.lock").unlink()
    os.mkfifo(evaluated / "dvc.lock")
    assert provenance.read_metrics(evaluated, model, "test").values is None
    (model / "MODEL_CARD.md").unlink()
    (model / "MODEL_CARD.md").write_text("\n## Data\n\n" + "a" * 2**18)
    assert provenance.read_card(model) == ()


@pytest.mark.parametrize(
    "content", ['{"a": NaN}', '{"a": 1e999}', '{"a": ' + "[" * 100 + "]" * 100 + "}", "[" * 9999]
)
def test_metrics_that_no_page_can_hold_are_left_out(evaluated, content):
    (evaluated / "metrics/test.json").write_text(content)
    lock = evaluated / "dvc.lock"
    lock.write_text(lock.read_text().replace(
        hashlib.md5(b'{"videos": 3}').hexdigest(), hashlib.md5(content.encode()).hexdigest()
    ))  # fmt: skip
    assert provenance.read_metrics(evaluated, evaluated / "model", "test").values is None


def test_a_lock_of_a_billion_stages_is_refused(evaluated):
    stages = "a0: &a0 {outs: [{path: metrics/test.json, md5: x}]}\n"
    for number in range(1, 10):
        stages += f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n"
    (evaluated / "dvc.lock").write_text(f"{stages}stages: {{x: *a9}}\n")
    assert provenance.read_metrics(evaluated, evaluated / "model", "test").values is None


def test_every_text_is_a_card(tmp_path):
    def read(text):
        (tmp_path / "MODEL_CARD.md").write_bytes(text.encode("utf-8", "surrogatepass"))
        return provenance.read_card(tmp_path)

    assert read("# x\n\n## Data\n\n**\n\n``\n\n** \n") == (provenance.CardSection("Data", ()),)
    assert read("\n## \n\n|\n")[0].blocks == (("table", [[""]]),)
    rng = random.Random(1)
    parts = ["**", "`", "|", "- ", "\n", "\n\n", "\n## ", "\r", "\x0b", "\x0c", "\u2028", " ", "a"]
    for _ in range(3000):
        text = "".join(rng.choices(parts, k=rng.randrange(30)))
        for section in read(f"\n## {text}"):
            for kind, block in section.blocks:
                assert kind in ("text", "list", "table")
                assert block or kind == "text"
