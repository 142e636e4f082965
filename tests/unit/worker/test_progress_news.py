"""What a heartbeat tells of how far runs are."""

from hyrex.worker.shared.child_messages import Progressed
from hyrex.worker.stream.progress import MOST_TOLD, ProgressNews


def test_words_of_runs_that_have_ended_keep_no_others_from_being_told() -> None:
    news = ProgressNews()
    for token in range(3 * MOST_TOLD):
        news.add(Progressed(token, 1.0, 2.0, ""))
    living = range(2 * MOST_TOLD, 3 * MOST_TOLD)
    assert [word.token for word in news.take(living)] == [*living]
    assert not news.take(living)
