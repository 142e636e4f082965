"""The launcher: the worker's first process, which starts the stream process and ends its session."""
