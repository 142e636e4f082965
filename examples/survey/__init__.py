"""A survey of Python source files: one task per file, fanned out and gathered by a parent task."""
