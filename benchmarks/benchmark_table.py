"""What it takes to compare detectors: import their scores, print the table, write the page.

Type: python benchmarks/benchmark_table.py [VIDEOS [DETECTORS [PAGE]]]

Makes up a benchmark of VIDEOS (5,000) by eight methods in two compressions, of a source for five
videos, and scores of DETECTORS (10); two of them score 32 frames of each video. PAGE, a path, keeps
the page. Intervals are of 1,000 resamples, as in params.yaml.
"""

import csv
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from unmask.cli.benchmark_table import import_scores, table
from unmask.records import VideoRecord
from unmask.runtime.record_files import write_index
from unmask.scoring.scores import sigmoid

METHODS = (
    "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "SimSwap", "DiffSwap",
    "LivePortrait",
)  # fmt: skip
FRAMES = 32
QUANTITIES = ("face_px", "sharpness", "grain", "saturation", "file_bytes", "bits_per_s")


def main() -> None:
    """Make the data up, then time the three commands."""
    given = sys.argv[1:]
    count = int(given[0]) if given else 5000
    detectors = int(given[1]) if len(given) > 1 else 10
    keep = Path(given[2]).absolute() if len(given) > 2 else None
    params = Path("params.yaml").absolute()
    with tempfile.TemporaryDirectory(prefix="unmask-benchmark-") as folder:
        os.chdir(folder)
        shutil.copy(params, "params.yaml")
        records, conditions = make_list(count)
        write_index(Path("held_out/raw/made/index.csv"), records)
        strengths = np.linspace(2.2, 0.1, detectors)
        for number, strength in enumerate(strengths):
            write_scores(Path(f"{number}.csv"), records, conditions, strength, number)
        write_looks(records)

        begun_s = time.monotonic()
        for number in range(detectors):
            with_frames = ["--frame-column", "frame"] if number < 2 else []
            run(
                import_scores, "made", f"{number}.csv", "--as", f"detector-{number}",
                "--id-column", "video", "--score-column", "score", "--higher-means", "fake",
                "--probabilities", "--compression-column", "compression", "--threshold", "0.5",
                "--trained-on", "faceforensics", *with_frames,
            )  # fmt: skip
        took_import_s = report(f"import of {detectors} detectors, {count:,} videos", begun_s)
        begun_s = time.monotonic()
        print(run(table, "made"))
        took_table_s = report("table", begun_s)
        begun_s = time.monotonic()
        run(table, "made", "--format", "html", "--out", "page.html")
        took_page_s = report("page", begun_s)
        size = Path("page.html").stat().st_size
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        took_s = took_import_s + took_table_s + took_page_s
        print(f"all: {took_s:.1f} s; CPU, with making the data up: {time.process_time():.1f} s")
        print(f"the page has {size / 1024:,.0f} KiB; at most {peak_mb:,.0f} MB of memory")
        if keep:
            shutil.copy("page.html", keep)


def make_list(count: int) -> tuple[list[VideoRecord], list[str]]:
    """Return made-up videos, four fakes to a real one, and their compressions."""
    records, conditions = [], []
    for number in range(count):
        is_fake = number % 5 > 0
        method = METHODS[(number * 7 // 5) % len(METHODS)] if is_fake else "real"
        name = f"video_{number:05}"
        records.append(
            VideoRecord(name, f"{name}.mp4", int(is_fake), f"s{number // 5}", method, "test")
        )
        conditions.append(("c23", "c40")[number // 5 % 2])
    return records, conditions


def write_scores(
    path: Path, records: list[VideoRecord], conditions: list[str], strength: float, seed: int
) -> None:
    """Write scores whose AUC grows with strength, less so on later methods and under c40."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "frame", "score", "compression"])
        for record, compression in zip(records, conditions, strict=True):
            harder = 1.0 - 0.08 * METHODS.index(record.method) if record.label else 1.0
            mean = strength * harder * (0.7 if compression == "c40" else 1.0) * record.label
            logit = rng.normal(2 * mean - strength, 1.6)
            frames = FRAMES if seed < 2 else 1
            for frame, noise in enumerate(rng.normal(0, 0.8, frames) if frames > 1 else [0.0]):
                rows.writerow([record.video_id, frame, float(sigmoid(logit + noise)), compression])


def write_looks(records: list[VideoRecord]) -> None:
    """Write what the videos look like, as the pipeline does."""
    rng = np.random.default_rng(99)
    folder = Path("metrics/benchmarks/made")
    folder.mkdir(parents=True)
    with (folder / "looks.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["video_id", *QUANTITIES, "frozen_net"])
        for record in records:
            values = np.exp(rng.normal(0.1 * record.label, 0.4, len(QUANTITIES)))
            net = rng.normal(0.5 * record.label)
            rows.writerow([record.video_id, *map(float, values * 120), float(net)])


def run(command: object, *words: str) -> str:
    """Run a command in this process, and return what it printed."""
    result = CliRunner().invoke(command, words, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


def report(what: str, begun_s: float) -> float:
    """Print how long something took, and return it."""
    took_s = time.monotonic() - begun_s
    print(f"{what}: {took_s:.1f} s", flush=True)
    return took_s


if __name__ == "__main__":
    main()
