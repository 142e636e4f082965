"""The SDK's use of Python itself: event loops, late imports, forks, blocking calls, waits. Knows no tasks."""
