"""Run a small plan in containers, and again in processes: `python tests/parts/try_containers.py`.

Needs a container engine where DOCKER_HOST says, python:3.11-slim in its reach and `make repro`'s
environment. Installs gigabytes into images, which stay, as function-<digest>.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from federated_small import make_members, pack_small

from unmask.federated.local import check_engine, run, task_environment
from unmask.federated.plans import fedavg
from unmask.federated.samples import FederatedError


def say(text: str) -> None:
    sys.stderr.write(f"containers: {text}\n")


def main() -> None:
    try:
        check_engine(os.environ)
    except FederatedError as error:
        say(f"SKIPPED, NOTHING WAS TESTED: {error}")
        return
    plan, values = fedavg(["org1", "org2"], ["org2"], rounds=1), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members, _ = make_members(folder / "all", ["org1", "org2"])
        assets = pack_small(folder / "archives")
        for backend in ("docker", "subprocess"):
            began = time.monotonic()
            environment = task_environment(os.environ, folder)
            tasks = run(
                plan, members, assets, folder / backend, environment=environment, backend=backend
            )
            values[backend] = {}
            for done in tasks:
                say(f"{time.monotonic() - began:.0f} s: {done.task} {done.value or ''}")
                if done.value is not None:
                    values[backend][done.task] = round(done.value, 4)
    assert values["docker"] == values["subprocess"], values
    say("passed: containers and processes scored the same")


if __name__ == "__main__":
    main()
