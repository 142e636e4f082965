"""The service that sends: `python send.py TEXT...` prints the id of the task."""

import sys

from hyrex import HyrexRegistry

hy = HyrexRegistry(queue="words")


@hy.remote(name="words.count")
def count(text: str) -> dict[str, int]:
    """How often each word occurs. Executed by a worker that is written in Go."""
    raise NotImplementedError


if __name__ == "__main__":
    print(count.send(text=" ".join(sys.argv[1:])).id)
