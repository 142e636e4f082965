"""A revoked token's streams end although their callers read nothing of what they are answered."""

import asyncio

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.service.callers import ENDS_ITSELF_WITHIN_S, Lasting
from hyrex_broker.service.tasks import FRAMES_UNDER_WAY
from tests.integration.service.stubs import ROOT, Stubs
from tests.support.tokens import bearer, made


def test_a_call_that_is_told_to_end_again_has_no_more_time() -> None:
    """Brokers tell it at each look at the tokens, until it has ended."""
    given: list[float] = []
    lasting = Lasting(given.append)
    lasting.end_by = lambda: None
    lasting.end()
    lasting.end()
    assert given == [ENDS_ITSELF_WITHIN_S]


async def test_a_submit_stream_whose_answers_nobody_reads_ends_with_its_token(guarded: Stubs) -> None:
    """8 answers of half a MB: more than gRPC takes for a caller that reads nothing."""
    assert guarded.tokens is not None
    own = await made(guarded.admin, ROOT, "own", "submit")
    stream = guarded.tasks.StreamSubmit(metadata=own, timeout=120)
    groups = [task_service_pb2.TaskGroup(terms=task_pb2.NewTask(name="n" * 5000)) for _ in range(100)]

    async def write() -> None:
        for number in range(10 * FRAMES_UNDER_WAY):
            await stream.write(task_service_pb2.StreamSubmitRequest(sequence=number, groups=groups))

    writing = asyncio.create_task(write())
    try:
        await guarded.recorded.submitted(FRAMES_UNDER_WAY)
        await guarded.admin.RevokeToken(admin_wire.RevokeTokenRequest(name="own"), metadata=bearer(ROOT))
        async with asyncio.timeout(60):
            while guarded.tokens.sizes()["open streams"]:
                await asyncio.sleep(0.05)
    finally:
        stream.cancel()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
