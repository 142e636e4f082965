"""The command line. `hyrex.cli:main` is its entry point; every command group is a file of its own.

Modules here import what is heavy inside their functions, so that `hyrex --help` stays quick.
"""

import os
import sys

# gRPC's core writes lines of its own to stderr, beside the one line that says what is wrong.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> None:
    """Run the command line and exit."""
    try:
        from hyrex.cli.program import run

        run()
    except KeyboardInterrupt:  # while it was still being loaded
        sys.exit(130)
