"""How long one waits for a clip's answer: python benchmarks/predict.py [CLIP] [MODEL].

Without CLIP one of 10 s in 1920x1080 is made. Prints seconds, the least of three runs, each a
process of its own, on the clock and of all cores, which says most where others work beside it, and
the peak memory of its processes (of a run before). Where bubblewrap confines workers, nobody hears
of their seconds, which are then missing from those of all cores. In turn:
decoding the clip alone; `unmask --help`; start-up, measured as the answer for a file that is empty
(imports, a worker, its detector, the net); the clip's answer; and (answer - start-up) / decoding,
which should be at most 2.0 on the clock of two cores.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured
from film import make_clips

RUNS = 3
OPEN = """
import sys
from pathlib import Path
from unmask.video.decode import read_frames
frames = read_frames(Path(sys.argv[1]))
next(frames)
"""
DECODE = OPEN + "for _ in frames: pass"
ANSWER = """
import sys
from pathlib import Path
from unmask.answers.analysis import analyse
from unmask.models.predict import Predictor
predictor = Predictor.load(Path(sys.argv[2]), device="cpu")
for answer in analyse(predictor, [Path(sys.argv[1])]):
    print(answer.verdict, answer.probability, answer.reason, file=sys.stderr)
"""


def least(command: list[str]) -> tuple[float, float, float]:
    """Return the least seconds that a command took, on the clock and of all cores, and its MB."""
    # By itself: looking at memory takes time.
    _, peak_bytes, _ = measured.run(command)
    clock_s, cores_s = [], []
    for _ in range(RUNS):
        begun_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        clock_s.append(time.perf_counter() - begun_s)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cores_s.append(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )  # fmt: skip
    return min(clock_s), min(cores_s), peak_bytes / 1e6


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(sys.argv[1]) if len(sys.argv) > 1 else make_clips(Path(folder))[0]
        model = sys.argv[2] if len(sys.argv) > 2 else "model"
        empty = Path(folder) / "empty.mp4"
        empty.touch()
        python = [sys.executable, "-c"]
        before_decoding = least([*python, OPEN, str(clip)])
        decoding = least([*python, DECODE, str(clip)])
        rows = {
            "decoding alone": (
                decoding[0] - before_decoding[0],
                decoding[1] - before_decoding[1],
                decoding[2],
            ),
            "unmask --help": least([sys.executable, "-m", "unmask", "--help"]),
            "start-up": least([*python, ANSWER, str(empty), model]),
            "answer": least([*python, ANSWER, str(clip), model]),
        }
    clock, cores = (
        (rows["answer"][n] - rows["start-up"][n]) / rows["decoding alone"][n] for n in (0, 1)
    )
    sys.stdout.write(f"{'':32}{'clock':>8}{'cores':>8}{'MB':>8}\n")
    for name, (clock_s, cores_s, peak_mb) in rows.items():
        sys.stdout.write(f"{name:32}{clock_s:8.2f}{cores_s:8.2f}{peak_mb:8.0f}\n")
    sys.stdout.write(f"{'(answer - start-up) / decoding':32}{clock:8.2f}{cores:8.2f}\n")


if __name__ == "__main__":
    main()
