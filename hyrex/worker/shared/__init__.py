"""What several of the worker's processes need: messages, options, shared memory."""
