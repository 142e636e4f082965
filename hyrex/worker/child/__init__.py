"""A child process: imports the user's app and runs its tasks."""
