"""What a decorator and `hy.schedules` refuse of a schedule, before anything is sent."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from hyrex import HyrexContext, HyrexRegistry, RuntimeUnsupported
from hyrex.testing import inline

BAD: list[tuple[dict[str, Any], str]] = [
    ({"cron": "1--100000000 * * * *"}, "task work: cron = .*minute"),
    ({"cron": "0 0 30 2 *"}, "task work: cron = .*never be due"),
    ({"cron": "@daily", "tz": "Mars/Base"}, "task work: tz = 'Mars/Base'.*IANA"),
    ({"tz": "Europe/Berlin"}, "task work: tz = 'Europe/Berlin'.*give cron"),
    ({"cron": 5}, "task work: cron must be a str"),
    ({"cron": "@daily", "tz": None}, "task work: tz must be the name"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_a_bad_schedule_is_refused_where_its_task_is_defined(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):

        @HyrexRegistry().task(**options)
        def work() -> None: ...


def test_a_parameter_without_a_default_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"task work: cron: .*give a, c a default"):

        @HyrexRegistry().task(cron="@daily")
        def work(a: int, b: int = 1, *, c: int) -> None: ...


def test_a_stub_has_no_schedule() -> None:
    with pytest.raises(TypeError, match="remote stub has no schedule"):

        @HyrexRegistry().remote(cron="@daily")
        def work() -> None:
            raise NotImplementedError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name must have"),
        ({"call": "work"}, "call must be what task.call"),
        ({"cron": "x"}, "cron = 'x'"),
        ({"cron": None}, "cron must be a str"),
        ({"tz": "Mars"}, "tz = 'Mars'"),
        ({"catch_up": "some"}, "catch_up must be"),
        ({"jitter": -1}, "jitter must be"),
        ({"jitter": 86_401}, "jitter must be"),
        ({"jitter": 3600, "cron": "@hourly"}, "jitter = 3600: reaches the next slot.* 3600 seconds"),
    ],
)
def test_put_names_what_is_not_valid(changes: dict[str, Any], words: str) -> None:
    hy = HyrexRegistry()

    @hy.task
    def work() -> None: ...

    wanted: dict[str, Any] = {"name": "nightly", "call": work.call(), "cron": "@daily"} | changes
    with pytest.raises((ValueError, TypeError), match=words):
        hy.schedules.put(**wanted)


def test_put_says_what_to_write_for_a_workflow() -> None:
    hy = HyrexRegistry()

    @hy.task
    def work() -> None: ...

    @hy.workflow
    def nightly() -> None:
        work.node()

    for given in (nightly, nightly.with_config(priority=2)):
        with pytest.raises(TypeError, match=r"got <workflow nightly .*give cron to a task that sends"):
            hy.schedules.put("nightly", given, "@daily")  # type: ignore[arg-type]


def test_an_inline_test_says_that_it_has_no_schedules() -> None:
    with inline(), pytest.raises(RuntimeUnsupported, match="inline test has no broker"):
        HyrexRegistry().schedules.list()


@pytest.mark.parametrize(
    ("header", "slot"),
    [
        ("2026-03-28T02:00:00.000000Z", datetime(2026, 3, 28, 2, tzinfo=UTC)),
        ("tomorrow", None),
        (None, None),
    ],
)
def test_the_context_has_the_slot_of_a_scheduled_task(header: str | None, slot: datetime | None) -> None:
    headers = {} if header is None else {"hyrex-scheduled-for": header}
    now = datetime.now(UTC)
    nobody = UUID(int=0)
    context = HyrexContext(
        nobody, "work", "default", 5, 0, 0, 0, None, nobody, None, now, now, "worker", headers=headers
    )
    assert context.scheduled_for == slot
