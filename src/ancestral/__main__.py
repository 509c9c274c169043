"""`python -m ancestral`: the command line."""

from ancestral.cli import main

main()
