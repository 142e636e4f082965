"""Heartbeats: when the next is due, when each was sent, and the trust that an acknowledged one gives."""

from hyrex.worker.shared.memory import boottime_ns
from hyrex.worker.stream.session import WorkerSession


class HeartbeatClock:
    """Numbers heartbeats and turns their acknowledgements into trust."""

    def __init__(self, session: WorkerSession) -> None:
        self._session = session
        self._sequence = 0
        self._sent: dict[int, int] = {}  # sequence -> boot time of sending
        self._next_ns = 0

    def due(self) -> bool:
        """Return True if it is time for the next heartbeat."""
        return boottime_ns() >= self._next_ns

    def due_in_s(self) -> float:
        """Seconds until the next heartbeat is due."""
        return max(0.0, (self._next_ns - boottime_ns()) / 1e9)

    def beat(self) -> int:
        """Note that a heartbeat is sent now; return its sequence."""
        now = boottime_ns()
        self._sequence += 1
        self._sent[self._sequence] = now
        self._next_ns = now + int(self._session.terms.heartbeat_interval_s * 1e9)
        return self._sequence

    def acknowledged(self, sequence: int) -> None:
        """Note that the broker acknowledged this heartbeat, and with it all before it."""
        sent = self._sent.get(sequence)
        self._sent = {number: at for number, at in self._sent.items() if number > sequence}
        if sent is not None:
            self._session.trust_from(sent)

    def forget(self) -> None:
        """Begin on a new stream: heartbeats sent on the old one will not be answered."""
        self._sent.clear()
        self._next_ns = 0
