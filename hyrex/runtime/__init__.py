"""What the SDK needs of Python: loops, late imports, forks, blocking calls and waits. Knows no task."""
