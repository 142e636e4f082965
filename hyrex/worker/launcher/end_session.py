"""Ends a session whose processes are all gone: one call to any broker, repeated for ten seconds if it fails.

The launcher runs this as a process of its own, so that the launcher itself never loads grpc.
"""

import asyncio
import os
import sys
import time
from typing import Final

import grpc.aio

from hyrex.transport.any_broker import at_any
from hyrex.transport.channel import parse_url
from hyrex.transport.errors import CallFailed
from hyrex.v1.worker_service_pb2 import EndSessionRequest
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceStub
from hyrex.worker.shared.launcher_messages import SessionTold, decode_lines

_WITHIN_S: Final = 10.0
_ANSWER_WITHIN_S: Final = 3.0
_PAUSE_S: Final = 0.2


async def end_session(urls: str, token: str, session: SessionTold, reason: str) -> bool:
    """Return True if some broker ended the session, or knew that it had ended."""
    request = EndSessionRequest(session_id=session.id, session_secret=session.secret, reason=reason)
    addresses = parse_url(urls)

    async def end(channel: grpc.aio.Channel) -> None:
        await WorkerServiceStub(channel).EndSession(request, timeout=_ANSWER_WITHIN_S)

    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline:
        try:
            await at_any(addresses, token or None, end)
        except CallFailed as error:
            if not error.failure.repeatable:
                return False
        else:
            return True
        await asyncio.sleep(_PAUSE_S)
    return False


def main() -> None:
    """`python -m hyrex.worker.launcher.end_session URLS REASON`, the session as a line on stdin."""
    (session,) = decode_lines(bytearray(sys.stdin.buffer.read()))
    assert isinstance(session, SessionTold)
    ended = asyncio.run(end_session(sys.argv[1], os.environ.get("HYREX_TOKEN", ""), session, sys.argv[2]))
    sys.exit(0 if ended else 1)


if __name__ == "__main__":
    main()
