"""`python -m headcount` is the command line."""

from headcount.cli import main

main()
