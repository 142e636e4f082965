"""What lies between users' tasks and whoever keeps them: the protocol, and a task on its way."""
