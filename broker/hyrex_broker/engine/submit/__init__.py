"""Stores submitted tasks, or hands them straight to a worker."""
