"""Terms are checked once for all tasks that share them, and the digest sees every difference."""

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import task_pb2
from hyrex_broker.domain.errors import InvalidField
from hyrex_broker.service import terms
from hyrex_broker.service.terms import KnownTerms


def wire(**changes: object) -> task_pb2.NewTask:
    return task_pb2.NewTask(**({"name": "greet", "queue": "default"} | changes))  # type: ignore[arg-type]


def test_the_same_terms_are_the_same_object() -> None:
    known = KnownTerms()
    first = known.of(wire(priority=7, timeout=Duration(seconds=3)))
    assert known.of(wire(priority=7, timeout=Duration(seconds=3))) is first
    assert (first.terms.rank, first.terms.timeout_ms) == (3, 3000)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"queue": "other"},
        {"priority": 6},
        {"max_retries": 1},
        {"timeout": Duration(seconds=1)},
        {"retry_delay": Duration(seconds=1)},
        {"headers": {"a": "b"}},
        {"idempotency_key": "k"},
    ],
)
def test_any_other_term_gives_another_seed(changes: dict[str, object]) -> None:
    known = KnownTerms()
    assert known.of(wire()).seed != known.of(wire(**changes)).seed


@pytest.mark.parametrize("changes", [{"idempotency_key": "k"}, {"labels": {"a": "b"}}, {"queue": "q" * 255}])
def test_what_hardly_comes_again_is_not_kept(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "_LONGEST_KNOWN", 200)
    known = KnownTerms()
    assert known.of(wire(**changes)) is not known.of(wire(**changes))


def test_bad_terms_are_refused_each_time() -> None:
    known = KnownTerms()
    for _ in range(2):
        with pytest.raises(InvalidField):
            known.of(wire(priority=11))
