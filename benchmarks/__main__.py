"""Entry point of `python -m benchmarks`."""

from .command import main

main()
