"""What is told of how far runs are: by a child, and by a heartbeat."""

from hyrex.progress import checked_progress
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.run_progress import ProgressTeller
from hyrex.worker.shared.child_messages import Progressed
from hyrex.worker.shared.runs import Run
from hyrex.worker.stream.progress import MOST_TOLD, ProgressNews


def test_words_of_runs_that_have_ended_keep_no_others_from_being_told() -> None:
    news = ProgressNews()
    for token in range(3 * MOST_TOLD):
        news.add(Progressed(token, 1.0, 2.0, ""))
    living = range(2 * MOST_TOLD, 3 * MOST_TOLD)
    assert [word.token for word in news.take(living)] == [*living]
    assert not news.take(living)


def test_what_a_run_says_makes_no_contexts_of_others() -> None:
    sent: list[Progressed] = []
    other, own = (
        Execution.of(
            Run(name="task", queue="default", token=n, task_id="0" * 31 + str(n), payload=b""), "worker"
        )
        for n in range(2)
    )
    teller = ProgressTeller(sent.append, lambda: [other, own])
    context = own()
    teller.tell(context, checked_progress(1, 2, ""))
    teller.flush()
    assert [word.token for word in sent] == [own.token]
    assert other._context is None
