"""The call of `hyrex.enqueue_bytes` for a task, and what its errors mean."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from hyrex.backend.encoding import codec_name
from hyrex.backend.outgoing import Outgoing
from hyrex.backend.send_spec import SendSpec
from hyrex.codec import CODECS
from hyrex.errors import OutboxUnavailable, SendRejected

__all__ = ["Enqueue", "refuse_keys", "schema_here", "translated"]

DEFAULT_SCHEMA: Final = "hyrex"
_MISSING: Final = frozenset({"3F000", "42883", "42P01"})
_FORBIDDEN: Final = "42501"
_REFUSED: Final = "22023"


def schema_here(schema: str | None) -> str:
    """The schema of the brokers: as given, or as HYREX_SCHEMA says."""
    return schema or os.environ.get("HYREX_SCHEMA") or DEFAULT_SCHEMA


@dataclass(frozen=True, slots=True)
class Enqueue:
    """One call."""

    schema: str
    task: str
    payload: bytes
    queue: str
    options: str
    task_id: str

    @staticmethod
    def of(outgoing: Outgoing, schema: str) -> "Enqueue":
        """The call that enqueues a task."""
        config = outgoing.spec.config
        return Enqueue(
            schema,
            config.name,
            outgoing.payload,
            config.queue,
            json.dumps(_options(outgoing)),
            outgoing.task_id,
        )

    def sql(self, *places: str) -> str:
        """The statement, with these five parameters: task, payload, queue, options, id."""
        task, payload, queue, options, task_id = places
        name = self.schema.replace('"', '""')
        return (
            f'select "{name}".enqueue_bytes(cast({task} as text), cast({payload} as bytea),'
            f" cast({queue} as text),"
            f" cast(cast({options} as text) as jsonb), cast(cast({task_id} as text) as uuid))"
        )

    @property
    def values(self) -> tuple[str, bytes, str, str, str]:
        """The values of the parameters."""
        return self.task, self.payload, self.queue, self.options, self.task_id


def refuse_keys(spec: SendSpec) -> None:
    """Raise ValueError for what the outbox does not carry: without it the task would run as another one."""
    if spec.task.is_outside:
        raise ValueError(
            f"{spec.config.name}: an approval cannot be sent in a transaction yet; send it after the commit"
        )
    if spec.options.debounce_key:
        raise ValueError(
            f"{spec.config.name}: a task that is sent in a transaction has no debounce_key yet; send it after"
            " the commit, or without the key"
        )


def _options(outgoing: Outgoing) -> dict[str, Any]:
    spec, origin = outgoing.spec, outgoing.origin
    config, options = spec.config, spec.options
    said = {
        "priority": config.priority,
        "max_retries": config.max_retries,
        "timeout_seconds": config.timeout_seconds,
        "expires_in_seconds": config.expires_in,
        "retry_delay_seconds": None if config.retry_backoff is None else spec.task.retry_delay_s(1),
        "delay_seconds": None if options.delay is None else options.delay.total_seconds(),
        "run_at": None if options.run_at is None else options.run_at.isoformat(),
        "idempotency_key": options.idempotency_key,
        "concurrency_key": options.concurrency_key or None,
        "max_per_key": options.max_per_key if options.concurrency_key else None,
        "on_full": options.on_full if options.concurrency_key and options.on_full != "wait" else None,
        "fair_key": options.fair_key or None,
        "headers": dict(options.headers) or None,
        "labels": dict(options.labels) or None,
        "parent_id": origin.parent_id or None,
        "root_id": origin.root_id or None,
        "trace_context": origin.trace_context.hex() or None,
        "codec": codec_name(spec) or None if CODECS else None,
    }
    return {name: value for name, value in said.items() if value is not None}


@contextmanager
def translated(call: Enqueue) -> Iterator[None]:
    """Raise what an error of the database means; another one passes as the library raised it."""
    try:
        yield
    except Exception as error:
        state = _sqlstate(error)
        if state in _MISSING:
            raise OutboxUnavailable(
                f"{call.task} was not enqueued: the connection's database has no {call.schema}.enqueue_bytes."
                " Use a connection to the database of the brokers, or make an outbox in this one:"
                " `hyrex outbox install --outbox-url URL`. If they use --schema, set HYREX_SCHEMA or"
                " on(connection, schema=...)"
            ) from error
        if state == _FORBIDDEN:
            raise OutboxUnavailable(
                f"{call.task} was not enqueued: the connection's role may not call"
                f" {call.schema}.enqueue_bytes; an operator grants it:"
                " hyrex migrate --enqueue-as hyrex_outbox --grant-enqueue-to ROLE"
            ) from error
        if state == _REFUSED:
            raise SendRejected(f"{call.task} was not enqueued: {error}", "INVALID_ARGUMENT") from error
        raise


def _sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE of an error, or of the one that it was raised for."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            if isinstance(state := getattr(error, name, None), str):
                return state
        error = getattr(error, "orig", None) or error.__cause__
    return ""
