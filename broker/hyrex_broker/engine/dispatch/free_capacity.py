"""Free capacity, handed out to lanes in turn: what each lane may take, and from which sessions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.dispatch.rotation import Audience
from hyrex_broker.engine.sessions.session import Session, WorkerProfile


@dataclass(slots=True, eq=False)
class Offer:
    """What one session would still take of one pool."""

    session: Session
    free: int


class Offers:
    """What the sessions of one shape would take of one pool, the freest first."""

    def __init__(self, sessions: Iterable[Session], pool: str) -> None:
        found = ((session, session.free(pool)) for session in sessions)
        self.all = [Offer(session, free) for session, free in found if free > 0]
        self.free = sum(offer.free for offer in self.all)
        self._heap: list[tuple[int, int, Offer]] | None = None

    def _by_free(self) -> list[tuple[int, int, Offer]]:
        if self._heap is None:
            self._heap = [(-offer.free, place, offer) for place, offer in enumerate(self.all)]
            heapify(self._heap)
        return self._heap

    def freest(self) -> int:
        """What the freest session has."""
        heap = self._by_free()
        while heap and -heap[0][0] != heap[0][2].free:
            _, place, offer = heappop(heap)
            if offer.free:
                heappush(heap, (-offer.free, place, offer))
        return -heap[0][0] if heap else 0

    def take(self) -> tuple[int, Offer]:
        """Take the freest session out, until it is put back. Call `freest` before."""
        _, place, offer = heappop(self._by_free())
        return place, offer

    def put(self, place: int, offer: Offer) -> None:
        """Put a session back."""
        if offer.free:
            heappush(self._by_free(), (-offer.free, place, offer))


class Room:
    """Free capacity by (shape, pool). `shapes` by their numbers in the audiences."""

    def __init__(self, shapes: "dict[int, WorkerProfile]") -> None:
        self._shapes = shapes
        self._offers: dict[tuple[int, str], Offers] = {}
        self._rivals: Counter[tuple[int, str]] = Counter()

    def _of(self, audience: Audience) -> list[Offers]:
        found = []
        for pair in audience:
            if pair not in self._offers:
                number, pool = pair
                self._offers[pair] = Offers(self._shapes[number].sessions.values(), pool)
            found.append(self._offers[pair])
        return found

    def free(self, audience: Audience) -> int:
        """Runs that the sessions of an audience would take."""
        return sum(offers.free for offers in self._of(audience))

    def expect(self, audience: Audience, lanes: int) -> None:
        """So many lanes will share what this audience has."""
        for pair in audience:
            self._rivals[pair] += lanes

    def take(self, audience: Audience, most: int) -> list[SessionId]:
        """Slots for one of the lanes expected: its share of what its sessions have free, spread evenly."""
        offers = self._of(audience)
        free = sum(each.free for each in offers)
        sharers = max((self._rivals[pair] for pair in audience), default=1)
        self.expect(audience, -1)
        count = min(-(-free // max(sharers, 1)), most)
        return _deal(offers, count) if count > 0 else []


def _deal(offers: Sequence[Offers], count: int) -> list[SessionId]:
    """Deal slots like cards, so that few runs spread over many sessions, the freest first."""
    if count < sum(len(each.all) for each in offers):
        return _deal_few(offers, count)
    slots: list[SessionId] = []
    hands = sorted(
        ((each, offer) for each in offers for offer in each.all if offer.free),
        key=lambda hand: -hand[1].free,
    )
    while hands and len(slots) < count:
        for each, offer in hands[: count - len(slots)]:
            offer.free -= 1
            each.free -= 1
            slots.append(offer.session.session_id)
        hands = [hand for hand in hands if hand[1].free]
    return slots


def _deal_few(offers: Sequence[Offers], count: int) -> list[SessionId]:
    """One round or less: only the freest are looked at, not all sessions for each of many lanes."""
    slots: list[SessionId] = []
    while len(slots) < count:
        taken: list[tuple[Offers, int, Offer]] = []
        while len(slots) < count:
            each = max(offers, key=Offers.freest)
            if not each.freest():
                break
            place, offer = each.take()
            offer.free -= 1
            each.free -= 1
            slots.append(offer.session.session_id)
            taken.append((each, place, offer))
        for each, place, offer in taken:
            each.put(place, offer)
        if not taken:
            break
    return slots
