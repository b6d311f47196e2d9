"""`python -m whimbrel`: the command, where the console script is not on the path."""

from whimbrel.cli import main

main(prog_name="python -m whimbrel")
