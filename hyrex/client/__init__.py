"""The sending client: one per process, shared by all its threads and loops."""

from hyrex.client.process import close_client, current_backend, replace_backend

__all__ = ["close_client", "current_backend", "replace_backend"]
