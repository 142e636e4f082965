"""A registered workflow: a function whose body wires tasks, which can be sent."""

import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pickle import PicklingError
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from hyrex.arguments.coder import TaskCoder
from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.arguments.signature import TaskSignature, place_of
from hyrex.backend.ids import given_id
from hyrex.backend.send_spec import SendSpec
from hyrex.errors import WorkflowInvalid, loaded
from hyrex.given_options import with_given
from hyrex.middleware import NOTHING, Stack
from hyrex.options import UNSET, KeyOf, SendOptions, TaskConfig, Unset, checked_flag
from hyrex.other_names import OF_WORKFLOWS, knows_its_options, missing
from hyrex.queue import HyrexQueue
from hyrex.runtime.portable import imported, is_importable

if TYPE_CHECKING:
    from hyrex.workflows.graph import Graph
    from hyrex.workflows.handle import WorkflowHandle

__all__ = ["ConfiguredWorkflow", "HyrexWorkflow", "SendableWorkflow"]

P = ParamSpec("P")
R = TypeVar("R")


class SendableWorkflow(Generic[P, R]):
    """A workflow with a configuration: the methods that send it."""

    _spec: SendSpec
    _workflow: "HyrexWorkflow[P, R]"
    fail_fast: bool

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> "WorkflowHandle[R]":
        """Store the workflow with all of its nodes, or nothing, and return its handle.

        The arguments are validated, then the body runs, then all is sent. Raises WorkflowInvalid,
        ArgumentInvalid or PayloadTooLarge before anything is sent, and what send() of a task raises.
        """
        payload, graph = self._workflow._made(args, kwargs)
        handle: WorkflowHandle[R] = loaded("hyrex.workflows.sending").send(self, payload, graph)
        return handle

    async def send_async(self, /, *args: P.args, **kwargs: P.kwargs) -> "WorkflowHandle[R]":
        """As send(), without blocking the running loop."""
        payload, graph = self._workflow._made(args, kwargs)
        handle: WorkflowHandle[R] = await loaded("hyrex.workflows.sending").send_async(self, payload, graph)
        return handle

    def graph(self, /, *args: P.args, **kwargs: P.kwargs) -> "Graph":
        """The nodes and edges that a send with these arguments would have; sends nothing. Raises as
        send()."""
        return self._workflow._made(args, kwargs)[1]

    if not TYPE_CHECKING:  # a checker finds such a name by itself

        def __getattr__(self, name: str) -> object:
            """Called for what is not there: say what another library's name is called here."""
            raise missing(self, name, OF_WORKFLOWS)

    @knows_its_options
    def with_config(
        self,
        *,
        queue: str | HyrexQueue | Unset = UNSET,
        priority: int | Unset = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        delay: float | timedelta | Unset | None = UNSET,
        run_at: datetime | Unset | None = UNSET,
        headers: Mapping[str, str] | Unset = UNSET,
        labels: Mapping[str, str] | Unset = UNSET,
        fail_fast: bool | Unset = UNSET,
    ) -> "ConfiguredWorkflow[P, R]":
        """Return a wrapper that sends this workflow with these options; options left out stay as they are.

        They are those of the workflow: its nodes have their tasks' own. `delay` and `run_at` hold for the
        nodes that wait for no other.
        """
        given = {
            "queue": queue,
            "priority": priority,
            "idempotency_key": idempotency_key,
            "delay": delay,
            "run_at": run_at,
            "headers": headers,
            "labels": labels,
        }
        fast = self.fail_fast if isinstance(fail_fast, Unset) else checked_flag("fail_fast", fail_fast)
        spec = SendSpec(self._workflow, *with_given(self._spec.config, self._spec.options, given))
        return ConfiguredWorkflow(self._workflow, spec, fail_fast=fast)

    def on(self, connection: object, *, schema: str | None = None) -> NoReturn:
        """Raises WorkflowInvalid: a workflow cannot be enqueued in a transaction of the caller's."""
        raise WorkflowInvalid(
            f"workflow {self._spec.config.name}: on() enqueues one task, and no workflow yet; enqueue a "
            "task that sends it, or send it after the commit"
        )


class HyrexWorkflow(SendableWorkflow[P, R]):
    """A function with a workflow's name. One without parameters is run once, when it is decorated, so that
    what is wrong with it is told there; one with parameters at each send, with the arguments."""

    __name__: str
    __qualname__: str
    keys_of: Mapping[str, KeyOf] = MappingProxyType({})
    is_async = False
    is_outside = False
    _stack: Stack = NOTHING

    def __init__(
        self,
        function: Callable[..., Any],
        config: TaskConfig,
        local_names: Mapping[str, Any] | None,
        options: SendOptions,
        *,
        fail_fast: bool = False,
    ) -> None:
        self.config = config
        self.options = options
        self.function = function
        self.fail_fast = fail_fast
        self._coder = TaskCoder(TaskSignature(function, config.name, local_names))
        self._coder.largest_bytes = self._largest_bytes
        self._spec = SendSpec(self, config, options)
        self._workflow = self
        self._graph: Graph | None = None
        functools.update_wrapper(self, function, updated=())
        if not self._coder.signature.names:
            self._build_now()

    @property
    def name(self) -> str:
        """The name under which brokers know its runs."""
        return self.config.name

    @property
    def place(self) -> str:
        """Where the function is defined, as file:line."""
        return place_of(self.function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """In another workflow's body: make its nodes there. Elsewhere it raises WorkflowInvalid: use
        send()."""
        name = self.config.name
        loaded("hyrex.workflows.building").current_building(f"{name}()", f"send it with {name}.send(...)")
        result: R = self.function(*args, **kwargs)
        return result

    def handle(self, task_id: UUID | str) -> "WorkflowHandle[R]":
        """The handle of an earlier sent run of this workflow; no I/O."""
        made: WorkflowHandle[R] = loaded("hyrex.workflows.handle").WorkflowHandle(
            given_id(task_id), self.name, decode=self._decode_result
        )
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as functions are, by module and name. Raises PicklingError if that finds another object."""
        if not is_importable(self):
            raise PicklingError(
                f"workflow {self.name} of {self.place} is not {self.__module__}.{self.__qualname__}, so it "
                "cannot be pickled: define it at the top of a module"
            )
        return imported, (self.__module__, self.__qualname__)

    def __copy__(self) -> "HyrexWorkflow[P, R]":
        return self

    def __deepcopy__(self, memo: object) -> "HyrexWorkflow[P, R]":
        return self

    def __repr__(self) -> str:
        return f"<workflow {self.name} of {self.place}>"

    def retry_delay_s(self, retry_number: int) -> float:
        """Never used: a workflow's own task is not run."""
        return 0.0

    def _decode_result(self, result: bytes) -> R:
        """The value of what its nodes have returned together, as JSON."""
        found: R = self._coder.decode_result(result)
        return found

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "tuple[bytes, Graph]":
        """The arguments, encoded, and the graph that the body makes with them."""
        payload = self._coder.encode_arguments(*args, **kwargs)
        if self._graph is not None:
            return payload, self._graph
        graph = self._built(self._coder.decode_arguments(payload))
        if not self._coder.signature.names:
            self._graph = graph
        return payload, graph

    def _built(self, arguments: Mapping[str, Any]) -> "Graph":
        bound = inspect.BoundArguments(self._coder.signature.signature, dict(arguments))
        with loaded("hyrex.workflows.building").building(self.name) as made:
            returned = self.function(*bound.args, **bound.kwargs)
            graph: Graph = loaded("hyrex.workflows.graph").graph_of(made, returned)
        return graph

    def _build_now(self) -> None:
        """Build it, unless a type hint of a task names what is defined later: then with the first send."""
        try:
            self._graph = self._built({})
        except TypeError as error:
            if not isinstance(error.__cause__, NameError):
                raise

    def _largest_bytes(self) -> int:
        codecs = self._stack.codecs
        return PAYLOAD_LIMIT_BYTES if codecs is None else codecs.largest_bytes


class ConfiguredWorkflow(SendableWorkflow[P, R]):
    """A workflow with options that differ from its own; made by with_config."""

    def __init__(self, workflow: HyrexWorkflow[P, R], spec: SendSpec, *, fail_fast: bool) -> None:
        self._workflow = workflow
        self._spec = spec
        self.fail_fast = fail_fast

    def __repr__(self) -> str:
        return f"<workflow {self._workflow.name} with {self._spec.config} {self._spec.options}>"
