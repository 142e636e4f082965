"""Celery on Redis: prefork, a high prefetch multiplier for short tasks, results stored in Redis."""
# mypy: ignore-errors

import os
import time

import redis
from celery import Celery

from benchmarks.actors.orders import obey
from benchmarks.peers.programs.order import order

URL = os.environ["BENCH_REDIS_URL"]
app = Celery("bench", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    worker_prefetch_multiplier=128,
    broker_connection_retry_on_startup=True,
    task_acks_late=False,
    worker_send_task_events=False,
)


@app.task(name="handle")
def handle(order: dict) -> int:
    """The task."""
    return order["order_id"]


def send(count: int) -> dict[str, float]:
    """Send, and wait for as many results."""
    results = redis.Redis.from_url(f"{URL}/1")
    results.flushdb()
    began = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            handle.apply_async(({**order(number)},), producer=producer)
    while results.dbsize() < count:
        time.sleep(0.02)
    return {"began": began, "ended": time.monotonic()}


if __name__ == "__main__":
    obey(send)
