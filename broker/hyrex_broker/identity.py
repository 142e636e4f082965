"""Composes the parts that know callers' tokens, as app.py does the others."""

from hyrex_broker.config import BrokerConfig
from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.known_tokens import KnownTokens
from hyrex_broker.root_tokens import RootTokenFile
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.tokens import TokenParts
from hyrex_broker.storage.audit import AuditStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.tokens import TokenStore


def known_tokens(config: BrokerConfig, database: Database) -> KnownTokens | None:
    """The tokens that let callers in; None where the broker asks for none."""
    if not config.asks_for_tokens:
        return None
    reread = RootTokenFile(config.token_file).changed_tokens if config.token_file is not None else None
    return KnownTokens(TokenStore(database), config.root_tokens, reread)


def token_parts(
    database: Database, audit: Audit, pages: PageTokens, tokens: KnownTokens | None
) -> TokenParts:
    """What the RPCs about tokens use."""
    changed = tokens.hurry if tokens is not None else lambda: None
    return TokenParts(TokenStore(database), AuditStore(database), audit, pages, tokens is not None, changed)
