"""`python -m corsar.cli`."""

from corsar.cli import main

main()
