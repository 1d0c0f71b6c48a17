"""A plan on this machine: Substra's subprocess mode, several organisations in one process.

That process is a child with an environment of its own, as Substra hands a task all that it has,
secrets too. Tasks are given to it one at a time, so each one's words go to a file of its own and
it is known which failed: Substra's local mode keeps neither.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import docker
import substra
from docker.api.client import APIClient
from docker.errors import DockerException
from requests import Response
from substra.sdk import schemas
from substra.sdk.backends.local.compute.spawner.base import BuildError, ExecutionError

from unmask.federated import plans, specs
from unmask.federated.archives import Asset, Assets
from unmask.federated.plans import FUNCTIONS, Plan
from unmask.federated.samples import SIDES, FederatedError, Sample, Side
from unmask.runtime.addresses import public, redacted

logger = logging.getLogger(__name__)

Backend = Literal["subprocess", "docker"]
LOG_LINES = 25  # of a failed task, in the error
PREDICTIONS = "predictions"  # in a plan's folder: <organisation>.json
# What a task sees of this machine. Not HOME: it leads to keys.
KEPT = (
    "CUDA_VISIBLE_DEVICES", "DOCKER_HOST", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
    "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR",
)  # fmt: skip


@dataclass(frozen=True)
class Participant:
    """An organisation on this machine: its samples, and the folder of each by name."""

    name: str
    samples: tuple[Sample, ...]
    folders: Mapping[str, Path]

    def folders_of(self, side: Side) -> list[Path]:
        """Return the folders of one side's samples."""
        return [self.folders[sample.name] for sample in self.samples if sample.side == side]


@dataclass(frozen=True)
class Done:
    """A task that is done; a metric's has its value."""

    task: str
    value: float | None


def task_environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return all that tasks see of this machine's environment; their home is the folder."""
    kept = {name: environment[name] for name in KEPT if name in environment}
    if paths := environment.get("PYTHONPATH"):  # relative ones: tasks run elsewhere
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).resolve()) for path in paths.split(os.pathsep) if path
        )
    return kept | {"HOME": str(folder.resolve())}


def check_engine(environment: Mapping[str, str]) -> None:
    """Pass if a container engine answers where DOCKER_HOST says, else at Docker's own socket.

    Raises:
        FederatedError: none does.
    """
    try:
        docker.from_env(environment=dict(environment)).close()  # it asks for the engine's version
    except DockerException as error:
        raise FederatedError(
            "Asked to run tasks in containers; no engine answers at "
            f"{public(environment.get('DOCKER_HOST', 'the socket of Docker'))} "
            f"({redacted(str(error), environment.get('DOCKER_HOST', ''))}). Start Docker, or "
            "`podman system service`, and let DOCKER_HOST name its socket."
        ) from error


def run(
    plan: Plan,
    participants: Sequence[Participant],
    assets: Assets,
    folder: Path,
    *,
    environment: Mapping[str, str],
    backend: Backend = "subprocess",
) -> Generator[Done, None, None]:
    """Yield each task as it is done; then folder has model.zip, and logs/ what each task said.

    predictions/ has what every test video scored, which a network leaves with its owner.

    environment is all that tasks see of this machine's. The plan should have been checked: nothing
    here does it.

    Raises:
        FederatedError: a task failed; the message says which, where, and the end of its log.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("*.log"):  # of a run that did not end
        old.unlink()
    job = {
        "backend": backend,
        "plan": asdict(plan),
        "samples": {
            each.name: {side: [str(p.resolve()) for p in each.folders_of(side)] for side in SIDES}
            for each in participants
        },
        "opener": _asset_row(assets.opener),
        "functions": {name: _asset_row(asset) for name, asset in assets.functions.items()},
        "folder": str(folder.resolve()),
    }  # fmt: skip
    # Substra fills the current folder; all of it goes when the plan has run.
    with tempfile.TemporaryDirectory(prefix=".substra-", dir=folder) as work:
        job_file = Path(work, "job.json")
        job_file.write_text(json.dumps(job))
        command = [sys.executable, "-m", "unmask.federated.local", "job.json"]
        # Functions import what lies beside them, which PYTHONSAFEPATH of `unmask` would forbid.
        own = {name: text for name, text in environment.items() if name != "PYTHONSAFEPATH"}
        with (logs / "substra.log").open("w") as log:
            child = subprocess.Popen(
                command, cwd=work, env=own, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
        try:
            assert child.stdout is not None
            done = 0
            for line in child.stdout:
                yield Done(**json.loads(line))
                done += 1
            if child.wait():
                raise _failure(plan, done, logs)
        finally:
            _end(child)


def _asset_row(asset: Asset) -> dict[str, str]:
    return {
        "path": str(asset.path.resolve()), "description": str(asset.description.resolve()),
        "sha256": asset.sha256,
    }  # fmt: skip


def _failure(plan: Plan, done: int, logs: Path) -> FederatedError:
    """Return what went wrong after so many tasks: in the next one, or before the first."""
    log, what = logs / "substra.log", f"asked Substra for {len(plan.tasks)} tasks; it stopped"
    for task in plan.tasks[done : done + 1]:
        if (logs / f"{task.name}.log").exists():
            log = logs / f"{task.name}.log"
            what = (
                f"asked {task.organisation} for the task {task.name}; its function "
                f"{task.function} failed"
            )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(f"  | {line}" for line in lines[-LOG_LINES:])
    return FederatedError(
        f"Plan {plan.name}: {what}. {log} ends:\n{tail}\n  Mend what it names and run again: plans "
        "that are done are kept."
    )


def _end(child: subprocess.Popen[str]) -> None:
    """End the child and the task it runs, which Ctrl-C here does not reach."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.stdout is not None:
        child.stdout.close()


# ---------------------------------------------------------------- in the child


def main(job_file: Path) -> None:
    """Run a job's plan in this process; write a line of JSON to stdout for each task done."""
    job = json.loads(job_file.read_text())
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    plan = plans.read_plan(job["plan"])
    backend = schemas.BackendType(job["backend"])
    APIClient._stream_raw_result = _stream_lines
    # podman answers with a container's first word; one that imports torch can take its time.
    docker.from_env = partial(docker.from_env, timeout=None)
    clients = {name: substra.Client(backend_type=backend, url="") for name in job["samples"]}
    keys = _register(job, plan, clients)
    submitter = next(iter(clients.values()))
    made = submitter.add_compute_plan(schemas.ComputePlanSpec(name=plan.name))
    for task in plan.tasks:
        value = None
        with (Path(job["folder"]) / "logs" / f"{task.name}.log").open("w") as log:
            _talk_to(log)
            spec = specs.task_spec(task, keys)
            tasks = schemas.UpdateComputePlanTasksSpec(key=made.key, tasks=[spec])
            try:
                submitter.add_compute_plan_tasks(made.key, tasks)
            except (BuildError, ExecutionError) as error:  # its own words are in the log
                sys.exit(str(error))
        if FUNCTIONS[task.function].is_metric:
            output = FUNCTIONS[task.function].output
            value = submitter.get_task_output_asset(keys.tasks[task.name], output).asset
        home, key = Path(job["folder"]), keys.tasks[task.name]
        if task.name == plan.model_task:
            _fetch(submitter, key, "model", home / "model.zip")
        if task.function == "predict":
            predictions = home / PREDICTIONS / f"{task.organisation}.json"
            _fetch(clients[task.organisation], key, "predictions", predictions)
        events.write(json.dumps({"task": task.name, "value": value}) + "\n")


_stream_raw = APIClient._stream_raw_result


def _stream_lines(client: APIClient, response: Response) -> Iterator[bytes]:
    """Yield what a container says as lines of bytes, each of which Substra decodes by itself.

    docker's own gives text where the engine names a charset, as podman does, which Substra can't
    decode, and elsewhere single bytes, where a letter that takes two would stop the plan.
    """
    line = b""
    for piece in _stream_raw(client, response, decode=False):
        line += piece
        if line.endswith(b"\n"):
            yield line
            line = b""
    yield line


def _talk_to(log: TextIO) -> None:
    """Send what this process and its children say to the file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())


def _fetch(client: substra.Client, task_key: str, output: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as fetched:
        client.download_model_from_task(task_key, output, fetched)
        [file] = Path(fetched).iterdir()
        file.replace(path)


def _register(
    job: Mapping[str, Any], plan: Plan, clients: Mapping[str, substra.Client]
) -> specs.Keys:
    """Register functions, datasets and samples: everybody here may use everything."""
    ids = {name: client.organization_info().organization_id for name, client in clients.items()}
    everybody = list(ids.values())
    submitter = next(iter(clients.values()))
    functions = {
        name: submitter.add_function(
            specs.function_spec(name, _asset(job["functions"][name]), everybody)
        )
        for name in sorted({task.function for task in plan.tasks})
    }
    opener = _asset(job["opener"])
    datasets: dict[tuple[str, Side], str] = {}
    samples: dict[tuple[str, Side], list[str]] = {}
    for name, client in clients.items():
        for side in SIDES:
            if paths := job["samples"][name][side]:
                spec = specs.dataset_spec(name, side, opener, everybody)
                key = client.add_dataset(spec)
                datasets[name, side] = key
                samples[name, side] = client.add_data_samples(
                    schemas.DataSampleSpec(paths=paths, data_manager_keys=[key])
                )
    tasks = {task.name: str(uuid.uuid4()) for task in plan.tasks}
    return specs.Keys(ids, functions, datasets, samples, tasks)


def _asset(row: Mapping[str, str]) -> Asset:
    return Asset(Path(row["path"]), Path(row["description"]), row["sha256"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
