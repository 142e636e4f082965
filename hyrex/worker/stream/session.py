"""The worker's session on the broker: its identity, the leases it holds, and until when it may trust them.

It outlives streams and brokers. Hello and every heartbeat name the leases in `held`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hyrex.worker.shared.memory import TrustCell, boottime_ns

_LEAST_MARGIN_NS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """The terms that the broker granted in Welcome."""

    lease_duration_s: float
    heartbeat_interval_s: float
    max_frame_bytes: int
    max_unacknowledged_reports: int


DEFAULT_TERMS: Final = SessionTerms(15.0, 5.0, 1 << 20, 1000)


class WorkerSession:
    """Id, secret, receipts, held leases and trust."""

    def __init__(self, trust: TrustCell) -> None:
        """No session yet, so nothing is trusted."""
        self.id = ""
        self.secret = b""
        self.received_through = 0
        self.terms = DEFAULT_TERMS
        self.held: dict[int, bytes] = {}  # token -> packed id of its task
        self.trust = trust

    def begin(self, session_id: str, secret: bytes, terms: SessionTerms) -> None:
        """Take over what a Welcome grants. A new session counts assignments from the beginning."""
        if session_id != self.id:
            self.received_through = 0
        self.id, self.secret, self.terms = session_id, secret, terms

    def forget(self) -> None:
        """Forget the session, which the broker does not accept, and trust none of its leases."""
        self.id, self.secret, self.received_through = "", b"", 0
        self.end()

    def end(self) -> None:
        """Trust none of its leases: the session is over. The next Hello names it, so that the broker knows
        which worker comes again."""
        self.trust.until_ns = 0

    def trust_from(self, sent_ns: int) -> None:
        """Prolong trust: the broker acknowledged a Hello or heartbeat sent at that time (rule 10)."""
        lease_ns = int(self.terms.lease_duration_s * 1e9)
        until = sent_ns + lease_ns - max(_LEAST_MARGIN_NS, lease_ns // 10)
        self.trust.until_ns = max(self.trust.until_ns, until)

    def trust_left_s(self) -> float:
        """Seconds for which the leases may still be trusted; negative when trust has lapsed."""
        return (self.trust.until_ns - boottime_ns()) / 1e9

    def settle(self, tokens: Iterable[int]) -> None:
        """Remove leases that are not held any more: reported and acknowledged, or void."""
        for token in tokens:
            self.held.pop(token, None)
