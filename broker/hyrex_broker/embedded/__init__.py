"""A private Postgres for development and tests, from binaries that pip can install.

It knows nothing of Hyrex: it starts and stops a server, and has its URL.
"""

from hyrex_broker.embedded.errors import EmbeddedPostgresError
from hyrex_broker.embedded.running import running_url
from hyrex_broker.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "running_url"]
