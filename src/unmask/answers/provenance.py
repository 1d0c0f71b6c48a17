"""What ties an answer to its video and its model: digests, versions, metrics that are its own."""

import hashlib
import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import yaml

from unmask.models.checkpoint import CARD
from unmask.records import content_digest
from unmask.runtime.digests import dvc_digest
from unmask.tracking import provenance

# Those whose version can move a score.
PACKAGES = (
    "unmask", "torch", "torchvision", "pytorchvideo", "timm", "facenet-pytorch", "av", "numpy",
    "opencv-python-headless",
)  # fmt: skip
ANNOTATED = "boxes and scores by unmask predict --annotate"  # in the metadata of such a clip
COMPARISON = "metrics/comparison.json"  # benchmarks/compare.py writes it
RUN_TAG = "unmask.run"  # as track_mlflow writes a training's key


@dataclass(frozen=True)
class Metrics:
    """A file of metrics that lies beside a model; values is None where they may not be shown."""

    values: dict[str, Any] | None
    remark: str  # why they are the model's own, or why not


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from; what is not known is None."""

    made_utc: str
    command: str
    git_commit: str | None
    git_dirty: bool | None  # whether files differ from the commit
    dvc_lock_sha256: str | None
    run_key: str  # of the training, by which every tracker finds its run
    mlflow_run: str | None
    python: str
    platform: str
    packages: dict[str, str]


def collect(
    root: Path, *, run_key: str, command: Sequence[str], mlflow_db: Path | None
) -> Provenance:
    """Return where an answer that is given now, from the checkout in root, comes from.

    mlflow_db is MLflow's SQLite file: a server is never asked.
    """
    tags = provenance.source_tags(root)
    lock = root / "dvc.lock"
    return Provenance(
        made_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(shown_name(word) for word in command),
        git_commit=tags.get("mlflow.source.git.commit"),
        git_dirty=tags["git.dirty"] == "true" if tags else None,
        dvc_lock_sha256=content_digest(lock) if lock.is_file() else None,
        run_key=run_key,
        mlflow_run=_find_run(mlflow_db, run_key) if mlflow_db else None,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _find_run(mlflow_db: Path, run_key: str) -> str | None:
    """Return the newest finished run of a training that MLflow's file knows."""
    if not mlflow_db.is_file():
        return None
    # MLflow's own client takes two seconds to import, and would move an old file to its schema.
    query = (
        "SELECT runs.run_uuid FROM runs JOIN tags ON runs.run_uuid = tags.run_uuid "
        "WHERE tags.key = ? AND tags.value = ? AND runs.lifecycle_stage = 'active' "
        "AND runs.status = 'FINISHED' "  # another of the same key may be under way
        "ORDER BY runs.start_time DESC"
    )
    try:
        with closing(sqlite3.connect(f"{mlflow_db.resolve().as_uri()}?mode=ro", uri=True)) as store:
            row = store.execute(query, (RUN_TAG, run_key)).fetchone()
    except sqlite3.Error:  # another schema, a lock, no database: then the key alone has to do
        return None
    return row[0] if row else None


def is_page(path: Path) -> bool:
    """Say whether a file is a report, whatever became of it since."""
    return _holds(path, b'id="unmask-report"')


def is_annotated(path: Path) -> bool:
    """Say whether a file is a clip with boxes that was written here."""
    return _holds(path, ANNOTATED.encode())


def _holds(path: Path, mark: bytes) -> bool:
    if not path.is_file():  # nobody may ever write into a pipe
        return False
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.find(mark) >= 0
    except (OSError, ValueError):  # one that may not be read, an empty one
        return False


def shown_name(name: str) -> str:
    r"""Return a file's name as text that any page can hold, which shows what it hides.

    Bytes that are no UTF-8 and letters that are not seen, such as those that turn the direction of
    writing, are written out.

    >>> shown_name("caf\udce9\n.mp4"), shown_name("clip\u202e4pm.exe")
    ('caf\\xe9\\n.mp4', 'clip\\u202e4pm.exe')
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


# ---------------------------------------------------------------- metrics


def read_metrics(root: Path, model_dir: Path, name: str) -> Metrics:
    """Return metrics/<name>.json of a checkout, where its dvc.lock says that they are the model's.

    That is so where a stage read a model of this content and wrote metrics of this content.
    """
    path = root / "metrics" / f"{name}.json"
    shown = f"metrics/{name}.json"
    if not path.is_file():
        return Metrics(None, f"There is no {shown} beside the model.")
    content = path.read_bytes()
    metrics = hashlib.md5(content, usedforsecurity=False).hexdigest()
    model = dvc_digest(model_dir)
    try:
        stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        are_its_own = any(
            {"path": shown, "md5": metrics}.items() <= wrote.items()
            and any(read["md5"] == model for read in stage.get("deps", []))
            for stage in stages.values()
            for wrote in stage.get("outs", [])
        )
        values = json.loads(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return Metrics(None, f"{shown} has no dvc.lock beside it that says of which model it is.")
    if not are_its_own:
        return Metrics(
            None, f"{shown} is not of this model, by what dvc.lock says: it is left out."
        )
    return Metrics(values, f"{shown} is of this model: dvc.lock holds the digests of both.")


def read_comparison(root: Path, model_dir: Path) -> Metrics:
    """Return metrics/comparison.json of a checkout, where a row of it has the model's digest.

    That row is the one that `this` numbers.
    """
    try:
        values = json.loads((root / COMPARISON).read_text(encoding="utf-8"))
        digests = [row["model_md5"] for row in values["rows"]]
    except FileNotFoundError:
        return Metrics(
            None, f"There is no {COMPARISON} beside the model: `make compare` writes it."
        )
    except (OSError, ValueError, LookupError, TypeError):
        return Metrics(None, f"{COMPARISON} can't be read: `make compare` writes it anew.")
    model = dvc_digest(model_dir)
    if model not in digests:
        return Metrics(None, f"{COMPARISON} is of other models: `make compare` writes it anew.")
    return Metrics(
        values | {"this": digests.index(model)}, f"{COMPARISON} has this model's digest."
    )


# ---------------------------------------------------------------- the card


@dataclass(frozen=True)
class CardSection:
    """A chapter of a model card: its title and its paragraphs, lists and tables."""

    title: str
    blocks: tuple[tuple[str, Any], ...]  # ("text", str), ("list", [str]), ("table", [[str]])


def read_card(model_dir: Path) -> tuple[CardSection, ...]:
    """Return the chapters of the model's card; none where it has no card."""
    try:
        text = (model_dir / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    title, *chapters = f"\n{text}".split("\n## ")
    del title  # the name of the backbone, and what any model is
    return tuple(_chapter(chapter) for chapter in chapters)


def _chapter(text: str) -> CardSection:
    title, _, body = text.partition("\n")
    blocks = [_block(block) for block in body.strip("\n").split("\n\n") if block.strip()]
    return CardSection(title.strip(), tuple(blocks))


def _block(text: str) -> tuple[str, Any]:
    plain = text.replace("**", "").replace("`", "")
    lines = plain.splitlines()
    if lines[0].startswith("|"):
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
        return "table", [rows[0], *rows[2:]]
    if lines[0].startswith("- "):
        items = f"\n{plain}".split("\n- ")[1:]
        return "list", [" ".join(item.split()) for item in items]
    return "text", " ".join(plain.split())
