"""Ready tasks on their way to workers."""
