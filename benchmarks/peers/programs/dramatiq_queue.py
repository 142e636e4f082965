"""Dramatiq on Redis: two processes of eight threads, results stored in Redis."""
# mypy: ignore-errors

import os
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.actors.orders import obey
from benchmarks.peers.programs.order import order

URL = os.environ["BENCH_REDIS_URL"]
broker = RedisBroker(url=f"{URL}/2")
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/3")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def handle(order: dict) -> int:
    """The task."""
    return order["order_id"]


def send(count: int) -> dict[str, float]:
    """Send, and wait for as many results."""
    results = redis.Redis.from_url(f"{URL}/3")
    results.flushdb()
    began = time.monotonic()
    for number in range(count):
        handle.send(order(number))
    while results.dbsize() < count:
        time.sleep(0.02)
    return {"began": began, "ended": time.monotonic()}


if __name__ == "__main__":
    obey(send)
