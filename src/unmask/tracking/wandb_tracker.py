"""Runs in Weights & Biases, whose client keeps its own copy of each run in wandb/ below the root.

With WANDB_MODE=offline, or while the server is down, everything stays there until `wandb sync`
sends it.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from unmask.runtime.addresses import public
from unmask.tracking.tracker import TrackingError, environment, flat

logger = logging.getLogger(__name__)

MODEL_NAME = "unmask"
FOLDER = "wandb"  # in Git's and DVC's list of what they ignore

# How long its server may take to answer at the start, and to take the rest at the end.
ANSWER_S, FINISH_S = 10.0, 60.0

FLUSH_S = 1.0  # what a kill may cost; W&B's own 15 s would be an epoch


def open_run(
    root: Path, *, key: str, run_name: str | None, parent: str | None = None
) -> "WandbTracker":
    """Return the run with that id, new or going on: W&B keeps one run an id.

    parent is the key of the run that it belongs to: W&B shows it in a group of that name.

    WANDB_MODE, WANDB_API_KEY, WANDB_BASE_URL, WANDB_ENTITY, WANDB_PROJECT (`unmask` if it is not
    set) mean what W&B says.

    Raises:
        TrackingError: wandb is not installed, has no key, or refuses a setting.
    """
    # W&B keeps copies of artifacts and its caches in the home folder unless told otherwise.
    ours = {
        "WANDB_DATA_DIR": str(root.resolve() / FOLDER),
        "WANDB_CACHE_DIR": str(root.resolve() / FOLDER / "cache"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    surroundings = {n: value for n, value in ours.items() if n not in os.environ}
    with environment(surroundings):
        try:
            import wandb
        except ImportError as error:
            raise TrackingError(
                "UNMASK_TRACKER is wandb, and wandb is not installed. Type `make install`, "
                "or `pip install -e '.[wandb]'` in this checkout, or unset UNMASK_TRACKER."
            ) from error
        settings = {
            "project": os.environ.get("WANDB_PROJECT") or "unmask",
            "id": key, "name": run_name, "group": parent, "resume": "allow", "dir": root,
            # Else what an earlier run of this process was told would count.
            "mode": os.environ.get("WANDB_MODE") or "online",
            "settings": wandb.Settings(
                silent=True, console="off", disable_code=True, disable_git=True,
                x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
                x_transaction_log_flush_interval=FLUSH_S, init_timeout=ANSWER_S,
                finish_timeout=FINISH_S, finish_timeout_raises=True,
            ),
        }  # fmt: skip
        try:
            online = os.environ.get("WANDB_MODE", "online") == "online"
            if online and not wandb.login(prompt=False, verify=False):
                raise TrackingError(
                    "Asked W&B for a run; found no key for it. Type `wandb login`, or set "
                    "WANDB_API_KEY, or WANDB_MODE=offline, or unset UNMASK_TRACKER."
                )
            run = wandb.init(**settings)
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError, ValueError) as error:
            raise TrackingError(
                f"Asked W&B for the run {key}; found: {_line(error)}. Mend that setting, or unset "
                "UNMASK_TRACKER."
            ) from error
        except wandb.errors.CommError as error:
            wandb.teardown()  # else the id is in use, by the attempt that failed
            run = wandb.init(**(settings | {"mode": "offline"}))
            logger.warning(
                "Run %s: W&B did not take the run: %s. The work goes on. It is kept in %s: send "
                "it with `wandb sync` there when W&B takes it.",
                key, _line(error), root / FOLDER,
            )  # fmt: skip
    run.define_metric("*", step_metric="epoch")
    where = public(run.url or "") or Path(run.dir).parent  # an anonymous run's has a key in it
    logger.info("W&B run %s (%s) in %s", run.name, key, where)
    return WandbTracker(run, key, surroundings)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:400]


class WandbTracker:
    """A run in W&B, made by open_run."""

    def __init__(self, run: Any, key: str, surroundings: Mapping[str, str]) -> None:
        self.run_key: str | None = key
        self._run, self._surroundings = run, surroundings

    def log_params(self, values: Mapping[str, object]) -> None:
        """Note settings in the run's config, under dotted names."""
        self._run.config.update(flat(values), allow_val_change=True)

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Note facts in the run's config, as tags.<name>: W&B's own tags are words."""
        self._run.config.update(flat(values, "tags."), allow_val_change=True)

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Note numbers of an epoch in the run's history, of the whole run in its summary."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        if step is None:
            self._run.summary.update(known)
        else:
            self._run.log(known | {"epoch": step})

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's files."""
        assert path.is_file(), f"{path} is no file"
        # Into the run's own folder first: W&B would keep a link, and DVC replaces what it names.
        copy = Path(self._run.dir, folder or "", path.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        self._run.save(copy, base_path=self._run.dir, policy="now")

    def log_model(self, model_dir: Path) -> str | None:
        """Keep the folder as the artifact `unmask`; it gets its address when W&B takes it."""
        self._log_model(model_dir, [])
        return None

    def register_model(self, model_dir: Path, alias: str) -> None:
        """Give the model's artifact the alias; the same content is the same version."""
        self._log_model(model_dir, [alias])

    def finish(self, *, failed: bool) -> None:
        """End the run, and wait a while for what is on its way."""
        try:
            with environment(self._surroundings):
                self._run.finish(exit_code=1 if failed else 0)
        except TimeoutError:
            logger.warning(
                "Run %s: W&B did not take all of it in %.0f s. It is kept in %s: send it with "
                "`wandb sync --include-online` and that path.",
                self.run_key, FINISH_S, Path(self._run.dir).parent,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def _log_model(self, model_dir: Path, aliases: list[str]) -> None:
        import wandb

        assert model_dir.is_dir(), f"{model_dir} is no folder"
        with environment(self._surroundings):
            artifact = wandb.Artifact(MODEL_NAME, type="model")
            for path in sorted(path for path in model_dir.rglob("*") if path.is_file()):
                artifact.add_file(str(path), name=path.relative_to(model_dir).as_posix())
            self._run.log_artifact(artifact, aliases=["latest", *aliases])
