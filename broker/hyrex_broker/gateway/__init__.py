"""A gateway: one address in front of several cells, for clients that cannot route by HYREX_CELLS themselves.

It stores nothing. `cell` speaks to one cell, `search` asks all of them, `split` shares tasks among them;
`tasks`, `watching`, `schedules`, `queues` and `others` are the services. docs/adr/0021-gateway.md says why.
"""
