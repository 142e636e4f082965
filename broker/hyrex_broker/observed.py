"""Serves a broker's metrics where they are wanted: what measures runs, and is imported, only then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hyrex.runtime.metrics_server import MetricsUnavailable, serve_metrics
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.counters import Acknowledged
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.engine.cluster.depths import Depths
from hyrex_broker.parts import Engine
from hyrex_broker.service import errors
from hyrex_broker.service.certificates import BindError
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.depths import DepthStore
from hyrex_broker.storage.replica import ReadFrom


@contextmanager
def observed(
    config: BrokerConfig,
    source: ReadFrom,
    engine: Engine,
    broker: BrokerId,
    unreplicated: Callable[[], Acknowledged],
) -> Iterator[None]:
    """Within the block, answer scrapes if the configuration wants it. Raises BindError."""
    if config.metrics is None:
        yield
        return
    from hyrex_broker.metrics import BrokerMetrics

    database = source.database
    depths = Depths(DepthStore(database), BrokerStore(database), broker)
    metrics = BrokerMetrics(
        name=config.name,
        version=config.version,
        counters=database.counters,
        lanes=engine.directory.names,
        sessions=engine.sessions.by_id,
        refused=errors.refused,
        pools=database.sizes,
        database_answers=lambda: database.availability.away is None,
        replication=lambda: database.availability.synchronous,
        unreplicated=unreplicated,
        depths=lambda: depths.latest,
        refused_rows=engine.refused.counts,
        replica=source.replica,
    )
    engine.observers += [depths.run, metrics.lag.run]
    try:
        served = serve_metrics(metrics, config.metrics)
    except MetricsUnavailable as error:
        raise BindError(str(error)) from None
    print(f"broker metrics: {served.url}", flush=True)
    try:
        yield
    finally:
        served.close()
