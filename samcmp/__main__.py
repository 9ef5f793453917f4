"""``python -m samcmp``: the same as ``samcmp``."""

from samcmp.cli import main

main()
