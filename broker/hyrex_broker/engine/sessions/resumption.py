"""What becomes of the leases of a resumed session: its worker keeps those that it holds still."""

from dataclasses import dataclass

from hyrex_broker.domain.model import CancelOrder, LeaseRef, Outcome, RunEnd
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.sessions.session import Introduction, ServedSession, orphaned
from hyrex_broker.storage.endings import StoredLease
from hyrex_broker.storage.sessions import TakenOver


@dataclass(frozen=True, slots=True)
class Resumption:
    """The leases that a resumed session keeps and loses."""

    session: ServedSession
    adopted: list[LeaseRef]
    revoked: list[LeaseRef]
    orphans: list[LeaseRef]
    """Received but not held any more: their runs are lost."""
    unreceived: list[LeaseRef]
    """Never received: given back at no cost."""
    cancels: list[CancelOrder]
    to_leave: bool
    """An operator wants its worker to finish and leave."""

    def ends(self) -> list[RunEnd]:
        """The ends of the leases that it does not keep."""
        number = self.session.session_id
        lost = [orphaned(ref.task_id, ref.token, number, elapsed_us=0) for ref in self.orphans]
        return lost + [
            RunEnd(ref.task_id, ref.token, number, Outcome.RELEASED, reason="never received")
            for ref in self.unreceived
        ]


def reconcile(
    directory: Directory, session: ServedSession, introduction: Introduction, taken: TakenOver
) -> Resumption:
    """Compare the database's leases with those that the worker holds; adopt those that both have."""
    leases = taken.leases
    held = {ref.token: ref for ref in introduction.held}
    adopted, orphans, unreceived, cancels = [], [], [], []
    session.received_through = introduction.received_through
    session.sequence = max([introduction.received_through, *(lease.sequence for lease in leases)])
    for lease in leases:
        ref = lease.lease
        if _covers(directory, introduction, lease) and held.pop(ref.token, None) is not None:
            adopted.append(ref)
            _adopt(directory, session, lease)
            if lease.cancel_reason is not None:
                cancels.append(CancelOrder(ref.task_id, ref.token, session.session_id, lease.cancel_reason))
        elif lease.sequence <= introduction.received_through:
            orphans.append(ref)
        else:
            unreceived.append(ref)
    revoked = list(held.values())
    return Resumption(session, adopted, revoked, orphans, unreceived, cancels, taken.draining)


def _covers(directory: Directory, introduction: Introduction, lease: StoredLease) -> bool:
    """Return True if the worker's token is for the lease's queue."""
    if introduction.covers is None:
        return True
    names = directory.names.get(lease.lane)
    return names is not None and introduction.covers(names[0])


def _adopt(directory: Directory, session: ServedSession, lease: StoredLease) -> None:
    name = directory.names[lease.lane][1] if lease.lane in directory.names else ""
    pool = session.profile.task_pools.get(name, next(iter(session.capacity), ""))
    session.add(lease.lease.token, lease.lease.task_id, lease.sequence, pool)
    if lease.lane in directory.families:
        session.count(lease.lane, [lease.lease.token])
