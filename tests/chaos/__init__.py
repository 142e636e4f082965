"""Chaos: a cluster under load whose parts are killed, stopped, cut off and restarted at random.

What tasks did is written to a journal outside Hyrex; at the end the journal and the database are
compared. `scripts/chaos --seconds N --seed S --json FILE` runs it.
"""
