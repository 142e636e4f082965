"""`python -m hyrex.worker module:app [options]`."""

import sys

from hyrex.worker.launcher.supervisor import run_worker
from hyrex.worker.shared.options import parse_options

if __name__ == "__main__":
    sys.exit(run_worker(parse_options(sys.argv[1:])))
