"""The sending client: one per process, shared by all its threads and loops."""

from hyrex.client.process import close_client, current_backend, replace_backend
from hyrex.client.sending import send_many, send_many_async, send_one, send_one_async

__all__ = [
    "close_client",
    "current_backend",
    "replace_backend",
    "send_many",
    "send_many_async",
    "send_one",
    "send_one_async",
]
