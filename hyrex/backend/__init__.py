"""The layer between users' tasks and a broker (or the inline backend of tests): its protocol and values."""
