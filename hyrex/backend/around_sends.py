"""Stores tasks within the middleware that is around their sends.

What a send raises is what the broker said: once tasks may be stored, no error of a middleware reaches the
caller, who would send them again.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hyrex.backend.outgoing import Outgoing, OutgoingBatch
from hyrex.backend.send_spec import SendSpec
from hyrex.backend.tracing import spans_of
from hyrex.middleware import CHANGES, Enter, Hooks, SendInfo, called, entered_by, entered_by_async
from hyrex.options import checked_texts

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["hooks_around", "store_within", "store_within_async"]

log = logging.getLogger("hyrex")


def hooks_around(specs: Sequence[SendSpec], tracer: "Tracer | None") -> Hooks | None:
    """What is around a send of these, spans of the tracer included; None if nothing is."""
    spans = () if tracer is None else spans_of(tracer)
    if not CHANGES:
        return Hooks(send=spans, send_async=spans) if spans else None
    found = [stack.hooks for stack in {spec.task._stack: None for spec in specs}]
    send = _each_once(spans, (hooks.send for hooks in found))
    send_async = _each_once(spans, (hooks.send_async for hooks in found))
    return Hooks(send=send, send_async=send_async) if send or send_async else None


def store_within(hooks: Hooks, tasks: Outgoing | OutgoingBatch, store: Callable[[], object]) -> None:
    """Call `store` within what is around it, after that has changed the tasks."""
    _store(hooks.send, _info(tasks), tasks, store)


async def store_within_async(
    hooks: Hooks, tasks: Outgoing | OutgoingBatch, store: Callable[[], Awaitable[object]]
) -> None:
    """As store_within(), for a caller on an event loop."""
    await _store_async(hooks.send_async, _info(tasks), tasks, store)


def _each_once(first: tuple[Enter, ...], more: Iterable[tuple[Enter, ...]]) -> tuple[Enter, ...]:
    return tuple(dict.fromkeys([*first, *(enter for some in more for enter in some)]))


def _info(tasks: Outgoing | OutgoingBatch) -> SendInfo:
    if isinstance(tasks, Outgoing):
        config, task_id = tasks.spec.config, tasks.task_id
        return SendInfo([config.name], [config.queue], 1, lambda: (task_id,))
    configs = [spec.config for spec in tasks.specs]
    names, queues = ({getattr(each, what): None for each in configs} for what in ("name", "queue"))
    info = SendInfo([*names], [*queues], len(tasks), lambda: [task.task_id for task in tasks])
    info.many = True
    return info


def _store(
    hooks: Sequence[Enter], info: SendInfo, tasks: Outgoing | OutgoingBatch, store: Callable[[], object]
) -> None:
    if not hooks:
        _change(tasks, info)
        store()
        return
    manager = entered_by(hooks[0], info)
    manager.__enter__()
    try:
        _store(hooks[1:], info, tasks, store)
    except BaseException as error:
        try:
            manager.__exit__(type(error), error, error.__traceback__)
        except Exception as odd:
            _tell(hooks[0], odd, error)
        raise
    try:
        manager.__exit__(None, None, None)
    except Exception as odd:
        _tell(hooks[0], odd)


async def _store_async(
    hooks: Sequence[Enter],
    info: SendInfo,
    tasks: Outgoing | OutgoingBatch,
    store: Callable[[], Awaitable[object]],
) -> None:
    if not hooks:
        _change(tasks, info)
        await store()
        return
    manager = entered_by_async(hooks[0], info)
    await manager.__aenter__()
    try:
        await _store_async(hooks[1:], info, tasks, store)
    except BaseException as error:
        try:
            await manager.__aexit__(type(error), error, error.__traceback__)
        except Exception as odd:
            _tell(hooks[0], odd, error)
        raise
    try:
        await manager.__aexit__(None, None, None)
    except Exception as odd:
        _tell(hooks[0], odd)


def _tell(enter: Enter, odd: Exception, error: BaseException | None = None) -> None:
    if odd is not error:
        told = (
            "raised after the send had failed" if error is not None else "raised after the tasks were stored"
        )
        log.warning("%s %s, which changes nothing for the caller", called(enter), told, exc_info=odd)


def _change(tasks: Outgoing | OutgoingBatch, info: SendInfo) -> None:
    """Give the tasks the headers, the labels and the trace that they get on their way."""
    if info._trace_context:
        tasks.origin = tasks.origin._replace(trace_context=info._trace_context)
    if not info._headers and not info._labels:
        return
    if isinstance(tasks, Outgoing):
        tasks.spec = _changed(tasks.spec, info)
        return
    made = {id(spec): _changed(spec, info) for spec in {id(spec): spec for spec in tasks.specs}.values()}
    tasks.specs = [made[id(spec)] for spec in tasks.specs]


def _changed(spec: SendSpec, info: SendInfo) -> SendSpec:
    options = replace(
        spec.options,
        headers=checked_texts("headers", {**info._headers, **spec.options.headers}),
        labels=checked_texts("labels", {**info._labels, **spec.options.labels}),
    )
    return SendSpec(spec.task, spec.config, options)
