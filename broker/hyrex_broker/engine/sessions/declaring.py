"""What sessions ask for so that the schedules of their code are stored."""

from collections.abc import Awaitable, Callable, Sequence

from hyrex_broker.domain.schedules import ScheduleDefinition

DeclaresSchedules = Callable[[Sequence[ScheduleDefinition], Callable[[str], bool] | None], Awaitable[object]]
"""Stores schedules, within the queues that are told."""


async def declare_none(schedules: Sequence[ScheduleDefinition], covers: Callable[[str], bool] | None) -> None:
    """For a broker without schedules."""
