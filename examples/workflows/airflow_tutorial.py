"""The two DAGs of Airflow's tutorial, with Hyrex: three commands in order, and extract, transform, load.

`hy.task(cron=)` is on the task that sends the workflow: what Airflow calls the schedule of a DAG.
"""

import json
from datetime import UTC, datetime

from pydantic import BaseModel

from hyrex import HyrexRegistry, WorkflowHandle

hy = HyrexRegistry()


class Totals(BaseModel):
    """What transform hands to load; an XCom in Airflow."""

    orders: int
    value: float


@hy.task
def print_date() -> str:
    """When it ran."""
    return datetime.now(UTC).date().isoformat()


@hy.task(max_retries=3)
def sleep() -> None:
    """Stands for something slow."""


@hy.task
def templated(days: int = 5) -> list[str]:
    """A line for each day."""
    return [f"{day}: day" for day in range(days)]


@hy.workflow
def tutorial() -> None:
    """t1 >> [t2, t3]"""
    print_date >> [sleep, templated]


@hy.task
def extract(source: str) -> dict[str, float]:
    """Orders by number."""
    orders: dict[str, float] = json.loads(source)
    return orders


@hy.task
def transform(orders: dict[str, float]) -> Totals:
    """What they are worth together."""
    return Totals(orders=len(orders), value=round(sum(orders.values()), 2))


@hy.task
def load(totals: Totals) -> str:
    """Says it."""
    return f"{totals.orders} orders, {totals.value:.2f} in all"


@hy.workflow
def tutorial_taskflow(source: str) -> str:
    """load(transform(extract()))"""
    orders = extract.node(source)
    totals = transform.node(orders.result)
    return load.node(totals.result).result


@hy.task(cron="@daily", tz="UTC")
def every_day(day: str = "") -> str:
    """Sends the workflow of a day, once: a second one of that day has the same key."""
    keyed = tutorial_taskflow.with_config(idempotency_key=day or datetime.now(UTC).date().isoformat())
    handle: WorkflowHandle[str] = keyed.send('{"1001": 301.27, "1002": 433.21, "1003": 502.22}')
    return str(handle.id)
