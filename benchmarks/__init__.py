"""Measurements of the whole system, one file each; `scripts/bench` runs them side by side."""
