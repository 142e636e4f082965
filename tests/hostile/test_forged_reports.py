"""A worker that knows, guesses or steals tokens records nothing for another."""

from typing import Final

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from hyrex.v1 import worker_service_pb2 as wire
from tests.hostile.victim import BEARER, WITHIN_S, Victim, open_channel
from tests.hostile.worker import RawWorker, serving
from tests.support.columns import assigned, completed

_NEAR: Final = 1000
_ID: Final = 1


def _report(task_id: str, *tokens: int, result: bytes = b'"FORGED"') -> wire.WorkRequest:
    runs = completed([(task_id, _signed(token)) for token in tokens], result)
    return wire.WorkRequest(report=wire.Report(report_id=_ID, completed=[runs]))


def _signed(token: int) -> int:
    """Tokens are 64 bits, and go round."""
    return (token + 2**63) % 2**64 - 2**63


def test_forged_tokens_near_a_known_one_are_stale_and_the_real_report_counts(victim: Victim) -> None:
    """The forger serves another queue; it knows a token of its own, and even the victim's."""
    honest = RawWorker(open_channel(victim.address), **serving("forged-b"))
    forger = RawWorker(open_channel(victim.address), **serving("forged-a"))
    honest.welcome()
    forger.welcome()
    victim.submit(1, queue="forged-a")
    (own,) = assigned(forger.read("assignments"))
    (wanted,) = victim.submit(1, queue="forged-b")
    (run,) = assigned(honest.read("assignments"))
    assert run.task_id == wanted
    with victim.watched() as damage:
        for known in (own.token, run.token):
            for side in (range(known - _NEAR, known), range(known, known + _NEAR)):
                forger.send(_report(wanted, *side))
                ack = forger.read("report_ack")
                assert sorted(ack.stale_tokens) == sorted(map(_signed, side))
    damage.is_little(peak_mib=20)
    honest.send(_report(wanted, run.token, result=b'"real"'))
    ack = honest.read("report_ack")
    assert (list(ack.stale_tokens), list(ack.duplicate_tokens)) == ([], [])
    request = task_service_pb2.GetTaskRequest(task_id=wanted)
    stub = task_service_pb2_grpc.TaskServiceStub(victim.channel)
    task = stub.GetTask(request, timeout=WITHIN_S, metadata=BEARER).task
    assert task.status == task_pb2.TASK_STATUS_COMPLETED
    assert [each.result for each in task.runs] == [b'"real"']
    honest.close()
    forger.close()
