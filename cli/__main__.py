"""`python -m latsem.cli`."""

from .main import main

main()
