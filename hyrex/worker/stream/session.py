"""The worker's session on the broker: who it is, what it holds, until when that may be trusted.

It outlives streams and brokers. HeldLease leases are the truth that Hello and every heartbeat tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hyrex.worker.pool.held_lease import HeldLease
from hyrex.worker.shared.memory import TrustCell, boottime_ns

_LEAST_MARGIN_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What the broker granted in Welcome."""

    lease_duration_s: float
    heartbeat_interval_s: float
    max_frame_bytes: int
    max_unacknowledged_reports: int


DEFAULT_TERMS = SessionTerms(15.0, 5.0, 1 << 20, 1000)


class WorkerSession:
    """Id, secret, receipts, held leases and trust."""

    def __init__(self, trust: TrustCell) -> None:
        """No session yet: nothing is trusted."""
        self.id = ""
        self.secret = b""
        self.received_through = 0
        self.terms = DEFAULT_TERMS
        self.held: dict[int, HeldLease] = {}
        self.trust = trust

    def begin(self, session_id: str, secret: bytes, terms: SessionTerms) -> None:
        """Take what a Welcome grants; a new session starts counting anew."""
        if session_id != self.id:
            self.received_through = 0
        self.id, self.secret, self.terms = session_id, secret, terms

    def forget(self) -> None:
        """The session is over; so is every lease."""
        self.id, self.secret, self.received_through = "", b"", 0
        self.trust.until_ns = 0

    def trust_from(self, sent_ns: int) -> None:
        """Prolong trust: something sent then was acknowledged as a proof of life (rule 10)."""
        lease_ns = int(self.terms.lease_duration_s * 1e9)
        until = sent_ns + lease_ns - max(_LEAST_MARGIN_NS, lease_ns // 10)
        self.trust.until_ns = max(self.trust.until_ns, until)

    def trust_left_s(self) -> float:
        """Seconds of trust that are left; negative when it has lapsed."""
        return (self.trust.until_ns - boottime_ns()) / 1e9

    def settle(self, tokens: Iterable[int]) -> None:
        """These leases are reported and acknowledged, or void: they are not held any more."""
        for token in tokens:
            self.held.pop(token, None)
