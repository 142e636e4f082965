"""The decisions of a broker. Knows no wire types; every statement is in `storage`.

- `submit`: stores submitted tasks, or hands them straight to a worker (hand-off).
- `dispatch`: moves delayed tasks to ready, and ready tasks to workers.
- `sessions`: the worker sessions of this broker, with what each may run and what it holds.
- `liveness`: heartbeats, expired sessions, overdue runs, how far runs are by their own word.
- `cluster`: notifications between brokers, presence, retention, statistics, how much waits.
- `reports`, `cancels`, `watches`: ends of runs, cancels and retries, who waits for what.
- `bulk`, `overview`: cancels and retries of all that a filter fits, the frames of a watched cluster.
- `known_tokens`, `audit`: who calls, and what was done with the rights of admins.
- `lane_directory`, `limits`, `growth`: the queues and names that this broker knows, and their bounds.
- `batching`, `shares`, `fairness`, `looks`: how callers share statements, and how searches are paced.
"""
