"""Every command of `unmask`: what to type for it, and the extras that it can't work without."""

from collections.abc import Iterator

import click

TRAIN, AWS, FEDERATED = ("train",), ("aws", "train", "dvc"), ("federated", "train")

# Arguments that are enough for it to begin; no extras: a plain installation runs it.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "adopt": (("a.safetensors",), TRAIN),
    "benchmark card": (("out",), ()),
    "benchmark import": (
        ("b", "scores.csv", "--as", "d", "--score-column", "s", "--higher-means", "fake"),
        (),
    ),
    "benchmark score": (("b",), ("mlflow",)),
    "benchmark table": ((), ()),
    "benchmark verify": (("b",), ()),
    "calibrate": (("clip.mp4",), ()),
    "check": ((), ()),
    "crop": ((), ()),
    "fake": (("clip.mp4", "--chunk", "new"), ()),
    "federated fetch": (("--config", "x"), FEDERATED),
    "federated leaderboard": ((), ()),
    "federated register": (("--config", "x", "--organisation", "o"), FEDERATED),
    "federated run-local": ((), FEDERATED),
    "federated samples": (("--organisations", "2"), FEDERATED),
    "federated status": (("--config", "x"), FEDERATED),
    "federated submit": (("--config", "x"), FEDERATED),
    "gate": ((), ()),
    "log": ((), ("mlflow",)),
    "notice": ((), ()),
    "predict": (("clip.mp4",), ()),
    "pretrain": ((), TRAIN),
    "push": (("hf:a/b",), ("hub",)),
    "sagemaker fetch": ((), AWS),
    "sagemaker status": ((), AWS),
    "sagemaker stop": ((), AWS),
    "sagemaker submit": ((), AWS),
    "serve": ((), ()),
    "split-study": ((), TRAIN),
    "verify": (("report.html",), ()),
}
# What `predict` and others need for some options alone.
OPTIONS = {
    "predict --rev v1 clip.mp4": "dvc",
    "predict --model runs:/1/model clip.mp4": "mlflow",
    "predict --model hf:a/b clip.mp4": "hub",
}


def leaves(group: click.Group, name: str = "") -> Iterator[str]:
    """Yield the commands that do something, as they are typed after `unmask`."""
    for part, command in group.commands.items():
        whole = f"{name} {part}".strip()
        if isinstance(command, click.Group):
            yield from leaves(command, whole)
        else:
            yield whole
