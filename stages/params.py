"""Refuse params.yaml before any stage runs, if it is wrong: python stages/params.py CHECKED.

The first stages depend on CHECKED, whose content never changes: so this one runs before them
whenever a param changed, known or not, and what is right runs nothing again.
"""

import sys
from pathlib import Path

from unmask import params
from unmask.doors import run_stage
from unmask.records import write_atomically


def main() -> None:
    [checked] = map(Path, sys.argv[1:])
    params.load()
    write_atomically(checked, "params.yaml is checked before any stage runs\n")


if __name__ == "__main__":
    run_stage(main)
