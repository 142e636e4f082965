"""The order in which a child tells its stream process things."""

import socket
from typing import Any

from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.shared.child_messages import Ended, Finished, Waiting, cut, decode_from_child
from hyrex.worker.shared.outcome import Completed, Ending, Released


class Interrupted(list[Any]):
    """A queue at which another thread gets its turn when somebody looks whether it is empty."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def __len__(self) -> int:
        length = super().__len__()
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return length


def test_no_message_overtakes_an_ending_that_was_noted_before_it() -> None:
    here, there = socket.socketpair()
    with here, there:
        parent = ParentSocket(here.detach())

        def another_thread() -> None:
            parent.end(Ending(1, Completed(b"1"), 1000))
            parent.end(Ending(2, Released(started=False, reason="")))
            parent.send(Waiting(3))

        parent._endings = Interrupted(another_thread)
        parent.flush()
        parent.flush()
        parent.disown()
        buffer = bytearray(there.recv(4096))
        told = [type(message) for body in cut(buffer) for message in decode_from_child(body)]
    assert set(told) == {Finished, Ended, Waiting}
    assert told.index(Waiting) > max(told.index(Finished), told.index(Ended))
