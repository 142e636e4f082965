"""The worker: a launcher, a stream process, and children that run user code.

- `launcher`: the first process; starts the stream process, reaps everything, ends the session.
- `stream`: the stream process; session, stream, reports, heartbeats, capacity. Never imports user code.
- `pool`: the part of the stream process that starts children, gives them runs and learns how they end.
- `child`: a process that imports the user's app and runs its tasks. Imports no gRPC unless a task sends.
- `shared`: messages between these processes, options, shared memory, functions of the operating system.

From outside, use `launcher.supervisor` to run a worker and `shared.options` for its settings. The command
line and the inline tests also use `child.target`, and the descriptions of errors and outcomes in `shared`.
"""
