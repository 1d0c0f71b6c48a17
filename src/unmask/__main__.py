"""`python -m unmask` is `unmask`."""

import sys

# `python -m` looks for modules in the current folder first, which may be a stranger's.
if not sys.flags.safe_path:
    del sys.path[0]

from unmask.cli.main import main

main()
