"""python -m lmx.bench: what scripts/bench runs."""

from lmx.bench.cli import main

main()
