"""Other task queues, each set up by its own documentation for throughput, beside Hyrex."""
