"""What more than one of the worker's processes must know: messages, options, shared memory."""
