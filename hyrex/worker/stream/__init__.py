"""The stream process: holds the broker's stream and the session, and runs no user code."""
