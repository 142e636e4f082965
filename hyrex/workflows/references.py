"""What stands for a node's result in a workflow's body: it can be given to other nodes, and nothing else."""

from collections.abc import Iterator
from typing import Any, NoReturn

from hyrex.errors import WorkflowInvalid
from hyrex.workflows.linkable import Linkable

__all__ = ["ResultOf", "refuse_nodes_in", "refuse_results_in", "results_in"]


class ResultOf:
    """The result of a node, which is known only once that has run. Type checkers take it for the result
    itself.

    Whatever would look into it raises WorkflowInvalid: the body of a workflow runs before its nodes.
    """

    __slots__ = ("node",)

    def __init__(self, node: Any) -> None:
        self.node = node  # a WorkflowNode, which knows this class

    def __repr__(self) -> str:
        return f"<the result of {self.node.title}>"

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise WorkflowInvalid(
            f"{self!r} is known only when that has run: here it can only be an argument of another node; "
            "give it to a task that does the rest"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python asks for what it may do: copy, pickle, pydantic's hooks
            raise AttributeError(name)
        self._refuse()

    def __eq__(self, other: object) -> bool:
        return self is other or self._refuse()

    __hash__ = object.__hash__
    __bool__ = __len__ = __iter__ = __getitem__ = __call__ = __contains__ = _refuse
    __str__ = __format__ = __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __mod__ = __floordiv__ = __pow__ = __neg__ = __or__ = __ror__ = __and__ = _refuse


def results_in(value: object) -> "list[ResultOf] | None":
    """The references of an argument that is a list (or tuple) of results; None if it has none of them.

    Raises WorkflowInvalid for a list of results and values.
    """
    if not isinstance(value, list | tuple):
        return None
    found = [each for each in value if isinstance(each, ResultOf)]
    if found and len(found) < len(value):
        other = next(each for each in value if not isinstance(each, ResultOf))
        raise WorkflowInvalid(
            f"a list of results and of values is given: {found[0]!r} and {other!r}; give a list of results "
            "only, or the value to a parameter of its own"
        )
    return found or None


def refuse_results_in(value: object) -> None:
    """Raise WorkflowInvalid if a result is somewhere within a value, where no result can be put."""
    for each in _parts(value):
        if isinstance(each, ResultOf):
            raise WorkflowInvalid(
                f"{each!r} is within a {type(value).__name__}: a result can be an argument or one of a "
                "list; give it to a parameter of its own"
            )


def refuse_nodes_in(value: object, task: str, parameter: str) -> None:
    """Raise WorkflowInvalid if an argument is a node or a task, or has one within it, and not its result."""
    for each in (value, *_parts(value)):
        if isinstance(each, Linkable):
            raise WorkflowInvalid(
                f"{task}.node() is given {each!r} for {parameter!r}, and wants what it returns; give the "
                ".result of its .node(...)"
            )


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield each
            yield from _parts(each)
