"""Runs one target under atheris: `python -m fuzz.fuzzer TARGET CORPUS SECONDS`.

It ends where it finds something, and exits with libFuzzer's codes: 0 where nothing was found.
"""

import hashlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

MOST_BYTES = 65_536  # of an input; the limits of the parsers themselves are far above
TIMEOUT_S = 10  # for one input: none takes a second on an idle machine
MEMORY_MB = 2048  # of the process, torch and the instrumentation included


def main(name: str, corpus: Path, seconds: int) -> None:
    """Read the corpus, then what is made of it, for so long."""
    logging.disable()  # a parser's words on each of a million inputs
    with atheris.instrument_imports(include=["unmask"]):
        target = importlib.import_module(f"fuzz.{name}")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    words = corpus.with_name("tokens")
    quoted = (token.replace('"', '\\"') if '\\"' not in token else token for token in target.TOKENS)
    words.write_text("".join(f'"{token}"\n' for token in quoted), encoding="utf-8")
    # Seed 0: other inputs each time. CI names one, so that it fails for a change alone.
    options = {
        "seed": os.environ.get("FUZZ_SEED", "0"), "max_total_time": seconds,
        "max_len": MOST_BYTES, "timeout": TIMEOUT_S, "rss_limit_mb": MEMORY_MB,
        "print_final_stats": 1, "dict": words, "artifact_prefix": f"{corpus.parent}/",
    }  # fmt: skip
    said = [f"-{option}={value}" for option, value in options.items()]
    read = _keeping(target.read, corpus.parent)
    atheris.Setup([name, *said, str(corpus)], read, enable_python_coverage=True)
    atheris.Fuzz()


def _keeping(read: Callable[[bytes], None], folder: Path) -> Callable[[bytes], None]:
    """Return read, but what makes it raise is kept and ends the process.

    Left to libFuzzer, Python would end first, and wait for the threads of a server, until the timer
    that watches for slow inputs kills it with nothing written.
    """
    count = 0

    def keep(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            read(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a find
            kept = folder / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            sys.stderr.write(
                f"=== Uncaught Python exception: ===\n{type(error).__name__}: {error!s:.300}\n"
                f"{traceback.format_exc()}\nTest unit written to {kept}\n"
                f"stat::number_of_executed_units: {count}\n"
            )
            sys.stderr.flush()
            os._exit(77)

    return keep


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
