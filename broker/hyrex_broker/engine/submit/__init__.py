"""Submitted tasks on their way into the tables, or straight to a worker."""
