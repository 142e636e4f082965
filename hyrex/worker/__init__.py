"""The worker: a launcher, a stream process, and children that run user code.

- `launcher`: the first process; starts the stream process, reaps everything, ends the session.
- `stream`: the stream process; session, stream, reports, heartbeats, capacity. Never imports user code.
- `pool`: the part of the stream process that starts children, gives them runs and learns how they end.
- `child`: a process that imports the user's app and runs its tasks. Imports no gRPC unless a task sends.
- `shared`: messages between these processes, options, shared memory, what systems offer.

From outside, `launcher.supervisor` runs a worker and `shared.options` has its settings; the command line and
inline tests also use `child.target`, and what `shared` says of errors and outcomes.
"""
