"""The dashboard: pages for people, a process of its own that knows the cluster by gRPC alone.

It holds no right of its own: each call carries the token of the person who looks, and the broker judges it.

- `access/`: who may look: names of hosts, the cookie, where a POST comes from
- `brokers.py`, `cluster.py`: calls to the brokers, and what several pages share of the answers
- `trends.py`: the small pictures of queues
- `pages/`: what each page shows and does
- `render/`: values as HTML: words, times, JSON, tracebacks, charts
- `live.py`: pages that follow the cluster
- `app.py`, `serving.py`: all of it as an ASGI application, and its server
"""
