"""The gRPC server of a broker: who may come in, and what is served."""

from collections.abc import Callable, Sequence

from hyrex_broker.config import BrokerConfig
from hyrex_broker.engine.known_tokens import KnownTokens
from hyrex_broker.service.doors import Doors
from hyrex_broker.service.listening import SERVICES, BuiltServer, Servicers, listen

__all__ = ["SERVICES", "BuiltServer", "Servicers", "build_server"]


def build_server(
    config: BrokerConfig,
    servicers: Servicers,
    tokens: KnownTokens | None = None,
    elsewhere: Callable[[], Sequence[str]] = tuple,
) -> BuiltServer:
    """Build the server with every service on it and bind its address. `tokens`: those that let callers in;
    they must be there if the configuration asks for any. `elsewhere`: brokers that may find a task which
    is not found here.

    Raises: BindError.
    """
    if config.asks_for_tokens and tokens is None:
        raise ValueError("the broker asks for tokens, and nothing knows them")
    doors = None
    if config.asks_for_tokens and tokens is not None:
        doors = Doors(tokens, by_certificate=config.tls_client_ca is not None)
    return listen(config, servicers, doors, elsewhere=elsewhere)
