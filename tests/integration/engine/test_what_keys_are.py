"""What a concurrency key is: that of a queue and name, and a number that nobody can foretell (rule 30)."""

from dataclasses import replace

from hyrex_broker.domain.model import SubmitAnswer
from hyrex_broker.engine.submit.keyed import KeyHasher
from hyrex_broker.storage.secrets import SecretStore
from tests.integration.engine.bench import Bench
from tests.integration.engine.stored_rows import rows
from tests.integration.storage.keys import keyed

KEY = ("default", "work", "a")


async def test_a_key_is_that_of_its_queue_and_name(bench: Bench) -> None:
    """Else who may send to one queue could keep tasks of another waiting."""
    tasks = [keyed("a") for _ in range(4)]
    for task, (queue, name) in zip(
        tasks,
        [("default", "work"), ("other", "work"), ("default", "other"), ("default", "work")],
        strict=True,
    ):
        task.terms = replace(task.terms, queue=queue, name=name)
        assert [type(each) for each in await bench.submit([task])] == [SubmitAnswer]
    ready = {str(task_id) for (task_id,) in await rows(bench, "select task_id from ready")}
    assert ready == {task.task_id for task in tasks[:3]}


async def test_keys_are_hashed_with_a_secret_that_brokers_share(bench: Bench) -> None:
    """Else anybody could look for two that have one hash, and keep tasks of the other waiting."""
    first, second = [KeyHasher(SecretStore(bench.database)) for _ in range(2)]
    known = await first.hash(KEY)
    assert await second.hash(KEY) == known
    await bench.database.fetch("update shared_secret set secret = sha256(secret)")
    assert await KeyHasher(SecretStore(bench.database)).hash(KEY) != known
