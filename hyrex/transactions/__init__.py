"""What `task.on(connection)` needs of each library: a call of `hyrex.enqueue_bytes` on a connection of it."""
