"""The folders that SageMaker gives to a training job, from a checkout's: what a submitter sends."""

import json
import shutil
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path

from unmask import params
from unmask.models import fit
from unmask.models.settings import Settings
from unmask.runtime import record_files
from unmask.sagemaker import contract


def key(root: Path, settings: params.Params) -> str:
    """Return the key of the training of a checkout; weights are named from the current folder."""
    chunks = record_files.read_chunks(settings.chunks, root / "raw", root / "faces")
    plan = fit.plan(chunks, Settings.of(settings), scratch=root / "no", weights_cache=root)
    return plan.key


def files(root: Path, settings: params.Params) -> list[Path]:
    """Return what a training reads of a checkout."""
    found = [
        path
        for chunk in settings.chunks
        for path in (
            *(root / "raw" / chunk / name for name in ("index.csv", "fingerprints.csv")),
            *sorted((root / "faces" / chunk).glob("[!.]*")),
        )
    ]
    weights = root / settings.model.weights
    return [*found, weights] if weights.is_file() else found


def lay_down(
    base: Path, root: Path, wanted: contract.JobParams, paths: Sequence[Path], *,
    hosts: Sequence[str] = ("algo-1",), current: str = "algo-1",
) -> Path:  # fmt: skip
    """Fill base with what SageMaker puts into /opt/ml, and return it."""
    listed = []
    for path in paths:
        digest = md5(path.read_bytes()).hexdigest()
        file = contract.StoredFile(path.relative_to(root).as_posix(), digest, path.stat().st_size)
        stored = base / "input/data" / contract.FILES / file.stored
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, stored)
        listed.append(file)
    listing = base / "input/data" / contract.LISTING / contract.LISTING_NAME
    resources = {"current_host": current, "hosts": list(hosts), "network_interface_name": "lo"}
    config = {
        "hyperparameters": contract.hyperparameters(wanted),
        "resourceconfig": resources,
        "inputdataconfig": {
            name: {"TrainingInputMode": "File"} for name in (contract.FILES, contract.LISTING)
        },
    }
    for folder in (listing.parent, base / "input/config", base / "model", base / "output"):
        folder.mkdir(parents=True, exist_ok=True)
    listing.write_text(contract.listing_text(listed))
    for name, values in config.items():
        (base / f"input/config/{name}.json").write_text(json.dumps(values))
    return base
