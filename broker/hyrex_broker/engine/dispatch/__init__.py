"""Moves delayed tasks to ready when they are due, and ready tasks to workers."""
