"""What of a submission is refused: by the rights of its caller, and by what the cluster knows."""

from collections.abc import Mapping

from hyrex_broker.domain.blocks import TaskBlock, at_places
from hyrex_broker.domain.errors import FeatureNotReady, RightMissing
from hyrex_broker.domain.features import Feature, FeatureGate, needed_by
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.service.groups import Submission
from hyrex_broker.service.task_rights import QueuesOf


def allowed(submission: Submission, caller: Caller) -> Submission:
    """The same without the tasks of queues that the caller has no right to, which are refused."""
    kept = []
    for block, places in submission.blocks:
        if caller.covers(block.terms.queue):
            kept.append((block, places))
        else:
            error = RightMissing(caller.name, Scope.SUBMIT, block.terms.queue)
            submission.refused.update(dict.fromkeys(places, error))
    submission.blocks = kept
    return submission


async def ready(submission: Submission, gate: FeatureGate) -> Submission:
    """The same without the tasks for which the cluster is not ready, which are refused.
    Raises StorageUnavailable."""
    kept = []
    for block, places in submission.blocks:
        refused = await not_ready(block, gate)
        submission.refused.update({places[at]: error for at, error in refused.items()})
        if not refused:
            kept.append((block, places))
        elif len(refused) < len(block):
            ats = [at for at in range(len(block)) if at not in refused]
            kept.append((at_places(block, ats), [places[at] for at in ats]))
    submission.blocks = kept
    return submission


async def not_ready(block: TaskBlock, gate: FeatureGate) -> dict[int, FeatureNotReady]:
    """Why tasks of a block cannot be stored now, by their places in it. Raises StorageUnavailable."""
    error = await gate.use(needed_by(block.terms))
    if error is not None:
        return dict.fromkeys(range(len(block)), error)
    found: dict[int, FeatureNotReady] = {}
    for feature, keys in ((Feature.KEYS, block.concurrency_keys), (Feature.FAIR_KEYS, block.fair_keys)):
        if keys is not None and (error := await gate.use([feature])) is not None:
            found |= {at: error for at, key in enumerate(keys) if key is not None}
    return found


async def without_others_keys(
    answers: Mapping[int, Answer], caller: Caller, queues: QueuesOf
) -> dict[int, Answer]:
    """The answers, without the tasks of others that hold an idempotency key: keys belong to the name of a
    task, in whatever queue."""
    hits = {place: answer for place, answer in answers.items() if isinstance(answer, KeyHit)}
    if not hits:
        return dict(answers)
    found = await queues.queues_of([hit.task_id for hit in hits.values()])
    hidden = {
        place: RightMissing(caller.name, Scope.SUBMIT, beyond="the queue of the task that holds its key")
        for place, hit in hits.items()
        if not caller.covers(found.get(hit.task_id, ""))
    }
    return {**answers, **hidden}
