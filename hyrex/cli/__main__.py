"""`python -m hyrex.cli`, the same as `hyrex`."""

from hyrex.cli import main

main()
