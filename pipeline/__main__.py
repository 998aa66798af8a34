"""`python -m pipeline` is `skipline`."""

from pipeline.cli import main

main()
