"""Tasks that a client sends to the cells of a gateway."""

from hyrex.v1 import task_pb2
from hyrex.v1 import task_service_pb2 as pb
from tests.integration.gateway.conftest import Stubs
from tests.integration.service.seeding import make_id

STORED, REJECTED = pb.SUBMIT_OUTCOME_STORED, pb.SUBMIT_OUTCOME_REJECTED


def new_task(queue: str, **options: object) -> task_pb2.NewTask:
    return task_pb2.NewTask(task_id=make_id(), name="shop.charge", queue=queue, payload=b"{}", **options)  # type: ignore[arg-type]


async def stored(stubs: Stubs, *tasks: task_pb2.NewTask) -> list[str]:
    answer = await stubs.tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=tasks))
    assert [each.outcome for each in answer.results] == [STORED] * len(tasks)
    return [each.task_id for each in tasks]
