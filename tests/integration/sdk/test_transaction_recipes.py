"""The code of docs/howto/transactions.md with the real FastAPI, SQLAlchemy and Django, and a broker."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from hyrex import get_task
from tests.support.eventually import eventually
from tests.support.postgres import connect, run_apart
from tests.support.process import ROOT
from tests.support.processes import RunningBroker, StartWorker

ORDERS: Final = "create table public.orders (id serial primary key, total integer not null)"
FASTAPI: Final = """
from fastapi.testclient import TestClient
import web

with TestClient(web.api) as client:
    print(client.post("/orders?total=42").json()["task"])
"""
DJANGO: Final = """
import os, sys
from urllib.parse import urlsplit
import django
from django.conf import settings

url = urlsplit(os.environ["PLAIN_URL"])
settings.configure(USE_TZ=True, DATABASES={
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "HOST": url.hostname,
                "PORT": url.port, "USER": url.username, "PASSWORD": url.password},
    "elsewhere": {"ENGINE": "django.db.backends.sqlite3", "NAME": "elsewhere.sqlite"},
})
django.setup()

from django.db import connection, connections, transaction
from hyrex import NotInTransaction, UnknownConnection
from hyrex.contrib.django import on_commit
from tasks import charge
import shop, elsewhere

print(shop.place_order(42))
with transaction.atomic():
    print(charge.on(connection).send(1).id)
    transaction.set_rollback(True)
for wrong, told in ((connection, NotInTransaction), (connections["elsewhere"], UnknownConnection)):
    try:
        charge.on(wrong).send(1)
    except told as error:
        print(type(error).__name__)
elsewhere.place_order_elsewhere(4711)
try:
    with transaction.atomic(using="elsewhere"):
        on_commit(charge, using="elsewhere").send(1)
        raise LookupError
except LookupError:
    print("rolled back")
"""


def _run(place: Path, code: str, env: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=os.environ | env, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\n")[:-1]


def _blocks(kind: str) -> list[str]:
    page = (ROOT / "docs/howto/transactions.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


async def _execute(url: str, sql: str) -> None:
    connection = await connect(url)
    await connection.execute(sql)
    await connection.close()


async def _count(url: str, sql: str) -> int:
    connection = await connect(url)
    count: int = await connection.fetchval(sql)
    await connection.close()
    return count


def test_the_recipes_enqueue_what_commits_and_nothing_else(
    tmp_path: Path,
    database_url: str,
    broker: RunningBroker,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, code in zip(("tasks", "send", "web", "shop", "elsewhere"), _blocks("python"), strict=True):
        (tmp_path / f"{name}.py").write_text(code)
    run_apart(_execute(database_url, ORDERS))
    start_worker("tasks:app", cwd=tmp_path)
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    env = {
        "DATABASE_URL": database_url.replace("postgresql://", "postgresql+asyncpg://", 1),
        "PLAIN_URL": database_url,
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
    }
    assert _run(tmp_path, "import send", env | {"DATABASE_URL": database_url}) == ["charged order 7"]
    (sql,) = _blocks("sql")
    run_apart(_execute(database_url, sql))
    (first,) = _run(tmp_path, FASTAPI, env)
    second, undone, *told = _run(tmp_path, DJANGO, env)
    assert told == ["NotInTransaction", "UnknownConnection", "rolled back"]
    for number, task_id in enumerate((first, second), 1):
        assert get_task(task_id).result(60) == f"charged order {number}"
    assert run_apart(_count(database_url, f"select count(*) from hyrex.task where id = '{undone}'")) == 0
    done = "select count(*) from hyrex.task join hyrex.task_run on task_id = id where final and outcome = 2"
    eventually(lambda: run_apart(_count(database_url, done)) == 5)
    assert run_apart(_count(database_url, "select count(*) from hyrex.task")) == 5
    assert run_apart(_count(database_url, "select count(*) from hyrex.outbox")) == 0
