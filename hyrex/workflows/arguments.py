"""The arguments of a node: those that are known as bytes, and the results that come later checked by their
types."""

from typing import Any, Final

from hyrex.backend.send_spec import SendSpec
from hyrex.errors import ArgumentInvalid, WorkflowInvalid
from hyrex.options import Unset
from hyrex.workflows.node import Binding, WorkflowNode
from hyrex.workflows.references import refuse_results_in
from hyrex.workflows.typefit import fits, fits_in_list, shown

__all__ = ["checked_payload_of", "spec_of"]

_ALONE: Final = "which is for tasks that are sent by themselves"


def checked_payload_of(node: WorkflowNode[Any]) -> bytes:
    """The arguments of a node that are known, encoded. Raises WorkflowInvalid, ArgumentInvalid,
    PayloadTooLarge."""
    coder, task_name = node._task._coder, node._task._spec.config.name
    bound = {binding.parameter for binding in node._bindings}
    lacking = sorted(coder.signature.required - node._given.keys() - bound)
    if lacking:
        raise _invalid(
            node,
            f"has no argument {lacking[0]!r}; write {task_name}.node({lacking[0]}=...) with a value, or "
            "with the result of another node",
        )
    for binding in node._bindings:
        _check_default(node, binding)
        _check_type(node, binding)
    try:
        return coder.encode_given(node._given)
    except ArgumentInvalid:
        for value in node._given.values():
            refuse_results_in(value)
        raise


def spec_of(node: WorkflowNode[Any], payload: bytes) -> SendSpec:
    """What is sent of its task, with the concurrency key of these arguments. Raises WorkflowInvalid."""
    spec = node._task._spec
    options = spec.options
    if options.idempotency_key is not None:
        raise _invalid(node, f"has an idempotency_key, {_ALONE}; give it to the workflow")
    if options.debounce_key is not None:
        raise _invalid(node, f"has a debounce_key, {_ALONE}; give it to a task that sends the workflow")
    if spec.task.is_outside and (node._bindings or options.delay is not None or options.run_at is not None):
        raise _invalid(
            node,
            "is an approval, which no worker runs, so it is given no results and no time; give it values, "
            "and let it run .after(...) what it waits for",
        )
    if options.on_full != "wait":
        raise _invalid(node, 'has on_full="refuse", and nodes wait where their key is busy; leave it out')
    for what in spec.task.keys_of:
        if node._bindings and isinstance(getattr(options, what), Unset):
            raise _invalid(
                node,
                f"has a {what} that is made of its arguments, and {node._bindings[0].parameter!r} is known "
                f"only when it runs; give with_config({what}=...) before .node(...)",
            )
    return spec.keyed(payload)


def _check_default(node: WorkflowNode[Any], binding: Binding) -> None:
    if node.goes_on_after(binding.upstream) and binding.parameter in node._task._coder.signature.required:
        raise _invalid(
            node,
            f"runs also when {binding.upstream.title} ends badly, and then has no argument "
            f"{binding.parameter!r}; give the parameter a default",
        )


def _check_type(node: WorkflowNode[Any], binding: Binding) -> None:
    """Raise WorkflowInvalid if both sides have hints, and no result can be that argument."""
    source = binding.upstream._task._coder.signature.hints.get("return", Any)
    target = node._task._coder.signature.hints[binding.parameter]
    if (fits_in_list if binding.listed else fits)(source, target):
        return
    what = "a list of what" if binding.listed else "what"
    raise _invalid(
        node,
        f"wants {shown(target)} for {binding.parameter!r}, and is given {what} {binding.upstream.title} "
        f"returns, {shown(source)}; give it another result, or change one of the hints",
    )


def _invalid(node: WorkflowNode[Any], what: str) -> WorkflowInvalid:
    return WorkflowInvalid(f"workflow {node._building.name}: {node.title} {what}")
