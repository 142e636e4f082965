"""A private Postgres for development and tests, from binaries that pip can install.

It knows nothing of Hyrex: it hands out a URL and looks after the server behind it.
"""

from hyrex_broker.embedded.errors import EmbeddedPostgresError
from hyrex_broker.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
