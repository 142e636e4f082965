"""For how long a worker goes on without an answer."""

import pytest

from hyrex.worker.shared.memory import TrustCell, create_fd
from hyrex.worker.stream.enforcer import warning_s
from hyrex.worker.stream.session import SessionTerms, WorkerSession
from hyrex_broker.config import BrokerConfig

NEVER_WAITED_FOR_S = 1e9


@pytest.mark.parametrize("lease_duration_s", [4.0, 5.0, 10.0, 15.0, 90.0, 3600.0])
def test_what_is_away_for_less_than_the_lease_duration_stops_no_run(lease_duration_s: float) -> None:
    """However unlucky: the heartbeat that was acknowledged last may be an interval old, and its renewal may
    have waited for a tick, when the outage begins."""
    broker = BrokerConfig(database_url="postgresql://h/d", lease_duration_s=lease_duration_s)
    terms = SessionTerms(broker.granted_lease_s, broker.heartbeat_interval_s, 1 << 20, 1000)
    session = WorkerSession(TrustCell(create_fd(TrustCell.SIZE_BYTES)))
    session.begin("1", b"secret", terms)
    session.trust_from(0)
    asked_to_stop_s = session.trust.until_ns / 1e9 - warning_s(terms, NEVER_WAITED_FOR_S)
    unacknowledged_s = terms.heartbeat_interval_s + broker.granted_lease_s / 30
    assert asked_to_stop_s - unacknowledged_s >= lease_duration_s
