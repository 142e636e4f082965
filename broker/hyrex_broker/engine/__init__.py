"""What a broker decides. Knows no wire types; every statement is in `storage`.

- `submit`: submitted tasks on their way into the tables, or straight to a worker (hand-off).
- `dispatch`: ready tasks on their way to workers, delayed ones on their way to ready.
- `sessions`: the worker sessions of this broker, what each may run and holds.
- `liveness`: heartbeats, expired sessions, overdue runs.
- `cluster`: notifications between brokers, presence, retention.
- `reports`, `cancels`, `watches`: ends of runs, cancels and retries, who waits for what.
- `lane_directory`, `limits`, `growth`: the queues and names that this broker knows, and their bounds.
- `batching`, `fairness`, `looks`: how callers share statements, and how searches are paced.
"""
