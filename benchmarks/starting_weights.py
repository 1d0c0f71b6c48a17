"""Two files of starting weights on people whom neither has seen: OLD.safetensors NEW.safetensors.

`python benchmarks/starting_weights.py weights/x3d_xs.safetensors other.safetensors` renders pairs
of a real face and its forgery of the sample's validation people, never of its test people: as they
come, dark, heavily encoded, with masks by the person's own mesh, and as pretraining mixes them. For
each it prints AUC and log-loss of both files on the same pictures, and the new one's less the old
one's, with 95% intervals that redraw people. Forged pictures lie in a temporary folder meanwhile.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmask import params
from unmask.cli.common import set_up_logging, workers
from unmask.errors import UnmaskError
from unmask.models import backbones
from unmask.models.image_net import ImageX3D
from unmask.models.pretrain import score_bank
from unmask.models.pretrain_bank import SHARES, Bank, Shares, draw_base, render_bank
from unmask.models.pretrain_faces import BaseFace, Material, collect_faces
from unmask.runtime.plain_text import shown_message
from unmask.scoring import metrics, scores

CONDITIONS = {
    "as they come": Shares(dark=0, coded=0, hulls=0),
    "dark": Shares(dark=1, coded=0, hulls=0),
    "heavily encoded": Shares(dark=0, coded=1, hulls=0),
    "masks by mesh": Shares(dark=0, coded=0, hulls=1),
    "as in pretraining": SHARES,
}
METRICS = {"AUC": scores.roc_auc, "log-loss": metrics.log_loss}
SPLIT = "validation"  # test people are nobody's to choose by
SEED = 1000  # pretraining's own validation pictures have another
RESAMPLES = 1000


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures of a condition, real and fake in turn, and who each shows."""

    bank: Bank
    people: list[str]


def render(
    faces: Sequence[BaseFace], folder: Path, shares: Shares, *, pairs: int, margin_ratio: float,
    side_px: int,
) -> Pictures:  # fmt: skip
    """Return so many rendered pairs; they lie in the folder."""
    for _ in render_bank(
        faces, folder, pairs=pairs, margin_ratio=margin_ratio, seed=SEED, workers=workers(),
        shares=shares,
    ):  # fmt: skip
        pass
    # A pair's generator draws the face first.
    drawn = [draw_base(faces, np.random.default_rng([SEED, index])) for index in range(pairs)]
    people = [face.person for face in drawn for _ in ("real", "fake")]
    return Pictures(Bank(folder, side_px=side_px), people)


def score(weights: Path, pictures: Pictures) -> tuple[npt.NDArray[np.int64], list[float | None]]:
    """Return each picture's label, and its score by the net of these weights.

    Raises:
        WeightsError: the file is no X3D-XS with a head of real and fake.
    """
    net = backbones.build("x3d_xs", dropout=0.5)  # which only training does
    backbones.load_weights(net, str(weights), "x3d_xs", sha256=None, cache_dir=weights.parent)
    labels, logits = score_bank(ImageX3D(net), pictures.bank)
    return labels, [float(each) for each in scores.sigmoid(logits)]


def compare(old: Path, new: Path, settings: params.Params, *, pairs: int) -> list[list[str]]:
    """Return a row for each condition and metric: old, new, and new less old."""
    material = Material(
        Path("data/sources"), Path("weights/mesh_points.npz"), Path("weights/portraits.csv")
    )
    faces = collect_faces(material, SPLIT, settings.sample.detect)
    rows = []
    for name, shares in CONDITIONS.items():
        with tempfile.TemporaryDirectory(prefix="unmask-pairs-") as folder:
            pictures = render(
                faces, Path(folder), shares, pairs=pairs,
                margin_ratio=settings.faces.margin_ratio, side_px=settings.pretrain.side_px,
            )  # fmt: skip
            labels, before = score(old, pictures)
            _, after = score(new, pictures)
        for metric, function in METRICS.items():
            measured = [
                metrics.measure(
                    function, labels.tolist(), answers, pictures.people,
                    resamples=RESAMPLES, seed=SEED,
                )
                for answers in (before, after)
            ]  # fmt: skip
            change = metrics.measure_difference(
                function, labels.tolist(), after, before, pictures.people,
                resamples=RESAMPLES, seed=SEED,
            )  # fmt: skip
            shown = [metrics.shown(each) for each in measured]
            rows.append([name, metric, *shown, metrics.shown(change, sign="+")])
    return rows


def main() -> None:
    """Read the arguments, compare, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=400, help="for each condition")
    asked = parser.parse_args()
    set_up_logging()
    rows = compare(asked.old, asked.new, params.load(), pairs=asked.pairs)
    head = ["pictures", "metric", "old", "new", "new less old"]
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    try:
        main()
    except UnmaskError as error:
        sys.exit(shown_message(str(error)))
