"""`python -m launch` is `lfc`, for a checkout that was not installed."""

from launch.cli import main

main()
