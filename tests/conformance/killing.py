"""Killing a process with everything below it, as a machine that loses its power would: all at one moment."""

import contextlib

import psutil


def kill_tree(pid: int) -> None:
    """Stop them all first, so that none can react to another's death; then kill."""
    tree: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        root.suspend()  # it starts nothing more
        tree = [root, *root.children(recursive=True)]
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                act(process)
