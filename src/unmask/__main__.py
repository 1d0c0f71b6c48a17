"""`python -m unmask` is `unmask`."""

from unmask.cli.main import main

main()
