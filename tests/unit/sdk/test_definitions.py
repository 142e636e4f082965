"""What may become a task, under which name and with which options."""

from dataclasses import field
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import Field

from hyrex import ArgumentInvalid, HyrexApp, HyrexQueue, HyrexRegistry
from hyrex.errors import DefinitionError
from hyrex.task import coder_of


def test_bare_decorator_takes_name_and_defaults() -> None:
    hy = HyrexRegistry()

    @hy.task
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert (add.name, add.__name__, add.__doc__) == ("add", "add", "Adds.")
    assert add.config.queue == "default"
    assert (add.config.max_retries, add.config.priority, add.config.timeout_seconds) == (0, 5, None)
    assert add(1) == 3
    assert hy.tasks == {"add": add}


def test_task_options_win_over_those_of_the_registry() -> None:
    hy = HyrexRegistry(queue="calm", max_retries=2, priority=3)

    @hy.task
    def one() -> None: ...

    @hy.task(queue="loud", max_retries=0, priority=9, timeout_seconds=timedelta(minutes=5), name="two")
    def other() -> None: ...

    assert (one.config.queue, one.config.max_retries, one.config.priority) == ("calm", 2, 3)
    assert (other.config.queue, other.config.max_retries, other.config.priority) == ("loud", 0, 9)
    assert (other.name, other.config.timeout_seconds) == ("two", 300.0)


def test_parameter_without_hint_is_refused_by_name() -> None:
    hy = HyrexRegistry()
    with pytest.raises(TypeError, match=r"task lost: parameter 'where' has no type hint"):

        @hy.task
        def lost(when: int, where) -> None: ...  # type: ignore[no-untyped-def]

    assert not hy.tasks


@pytest.mark.parametrize("options", [{}, {"name": "starred"}])
def test_star_parameters_are_refused_by_name(options: dict[str, Any]) -> None:
    hy = HyrexRegistry()
    with pytest.raises(TypeError, match=r"parameter \*args is not allowed"):

        @hy.task(**options)
        def positional(*args: int) -> None: ...

    with pytest.raises(TypeError, match=r"parameter \*\*kwargs is not allowed"):

        @hy.task(**options)
        def named(**kwargs: int) -> None: ...


def test_method_in_a_class_is_refused_for_its_self() -> None:
    hy = HyrexRegistry()
    with pytest.raises(TypeError, match="parameter 'self' has no type hint"):

        class Shop:
            @hy.task
            def sell(self, what: str) -> None: ...


def test_only_plain_functions_become_tasks() -> None:
    hy = HyrexRegistry()

    class Callable:
        def __call__(self) -> None: ...

    for thing in (Callable, Callable(), len, 3):
        with pytest.raises(TypeError, match="only plain functions"):
            hy.task(thing)  # type: ignore[arg-type]

    def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match="a generator cannot be a task"):
        hy.task(numbers)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"priority": 0}, "priority must be 1..10, got 0"),
        ({"priority": 11}, "priority must be 1..10, got 11"),
        ({"priority": "high"}, "priority must be an int, got 'high'"),
        ({"max_retries": -1}, "max_retries must be 0"),
        ({"max_retries": True}, "max_retries must be an int"),
        ({"timeout_seconds": 0}, "timeout_seconds must be above 0"),
        ({"timeout_seconds": -1}, "timeout_seconds must be"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds must be"),
        ({"queue": ""}, "queue must have 1..255 bytes"),
        ({"queue": "a\0b"}, "queue must have 1..255 bytes"),
        ({"queue": "ü" * 200}, "queue must have 1..255 bytes"),
        ({"queue": 7}, "queue must be a str"),
        ({"name": "x" * 256}, "name must have 1..255 bytes"),
        ({"retry_backoff": -1}, "retry_backoff must be"),
        ({"retry_backoff": "soon"}, "retry_backoff must be"),
        ({"no_retry_on": ("ValueError",)}, "no_retry_on must hold exception classes"),
        ({"on_error": 3}, "on_error must be callable"),
        ({"on_error": lambda a, b: None}, "on_error must take 0 or 1 argument"),
        ({"max_concurrency": 0}, "max_concurrency must be 1 or more"),
        ({"rate": "100"}, "rate must be a number from 1 to 1,000,000 and /s, m, h or d, got '100'"),
        ({"rate": "0/s"}, "rate must be a number from 1"),
        ({"rate": "9" * 9 + "/s"}, "rate must be a number from 1"),
        ({"rate": "1/w"}, "rate must be a number from 1"),
        ({"rate": 100}, "rate must be a str such as '100/m', got 100"),
        ({"burst": 5}, "burst = 5 belongs to a rate; give rate too"),
        ({"rate": "1/s", "burst": 0}, "burst must be 1..1,000,000, got 0"),
        ({"rate": "1/s", "burst": True}, "burst must be an int"),
    ],
)
def test_option_out_of_range_is_refused_with_its_value(options: dict[str, Any], error: str) -> None:
    hy = HyrexRegistry()
    with pytest.raises((TypeError, ValueError), match=error):

        @hy.task(**options)
        def task() -> None: ...


@pytest.mark.parametrize("options", [{"priority": 12}, {"max_retries": -2}, {"queue": ""}])
def test_registry_checks_its_defaults_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        HyrexRegistry(**options)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("delay", r"a task has no option 'delay': it is one of a send, task\.with_config\(delay="),
        ("expire_in", "no option 'expire_in'; did you mean expires_in"),
        ("zzz", "no option 'zzz'; it has name, queue, "),
    ],
)
def test_unknown_option_is_refused_with_what_it_may_have_meant(option: str, error: str) -> None:
    hy = HyrexRegistry()
    options: dict[str, Any] = {option: 3}
    with pytest.raises(TypeError, match=error):
        hy.task(**options)
    with pytest.raises(TypeError, match=error):
        hy.remote(**options)


def test_default_that_only_describes_one_is_refused_with_the_remedy() -> None:
    for default in (Field(default=5, gt=0), Field(gt=0), field(default=5)):
        with pytest.raises(TypeError, match=r"write x: Annotated\[..., Field\(...\)\] = 5"):

            @HyrexRegistry().task
            def described(x: int = default) -> None: ...

    with pytest.raises(TypeError, match=r"give it as x: Annotated\[...\] = 5"):

        @HyrexRegistry().task
        def within(x: Annotated[int, Field(default=5, gt=0)]) -> None: ...

    @HyrexRegistry().task
    def right(x: Annotated[int, Field(gt=0)] = 5) -> int:
        return x

    assert right() == 5
    assert coder_of(right).decode_arguments(coder_of(right).encode_arguments(3)) == {"x": 3}


def test_none_may_be_given_where_it_is_the_default() -> None:
    @HyrexRegistry().task
    def greet(name: str = None, n: "int" = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    for given in ((), (None,), ("Ada", None), ("Ada", 3)):
        sent = coder_of(greet).decode_arguments(coder_of(greet).encode_arguments(*given))
        assert tuple(sent.values()) == given
    with pytest.raises(ArgumentInvalid):
        coder_of(greet).encode_arguments(3)


def test_method_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match="'self' has no type hint; a method cannot be a task"):

        class Shop:
            @HyrexRegistry().task
            def greet(self, name: str) -> None: ...


def test_parameter_may_be_named_self() -> None:
    @HyrexRegistry().task
    def named(self: int, x: int = 1) -> int:
        return self + x

    assert named(self=2) == 3
    assert coder_of(named).decode_arguments(coder_of(named).encode_arguments(self=2)) == {"self": 2}
    assert coder_of(named).decode_arguments(named.call(self=2)._payload) == {"self": 2}


def test_app_serves_nested_registries_and_what_they_define_later() -> None:
    app, outer, inner = HyrexApp("shop"), HyrexRegistry(), HyrexRegistry()
    outer.add_registry(inner)
    app.add_registry(outer)
    app.add_registry(inner)

    @inner.task
    def deep() -> None: ...

    @outer.task
    def shallow() -> None: ...

    assert set(app.tasks) == {"deep", "shallow"}


def test_registry_cannot_contain_itself() -> None:
    outer, inner = HyrexRegistry(), HyrexRegistry()
    outer.add_registry(inner)
    with pytest.raises(DefinitionError):
        inner.add_registry(outer)


def test_queues_are_collected_from_registries_and_tasks() -> None:
    app = HyrexApp("shop")
    hy = HyrexRegistry(queue=HyrexQueue("main", concurrency_limit=4))

    @hy.task(queue=HyrexQueue("side"))
    def aside() -> None: ...

    app.add_registry(hy)
    assert {name: queue.concurrency_limit for name, queue in app.queues.items()} == {"main": 4, "side": None}
    assert aside.config.queue == "side"


def test_queue_declared_twice_with_other_limits_is_refused() -> None:
    hy = HyrexRegistry(queue=HyrexQueue("main", concurrency_limit=4))

    @hy.task(queue=HyrexQueue("main", concurrency_limit=5))
    def task() -> None: ...

    with pytest.raises(DefinitionError, match="declared twice"):
        _ = hy.queues
    with pytest.raises(ValueError, match="concurrency_limit"):
        HyrexQueue("main", concurrency_limit=0)
    with pytest.raises(ValueError, match="rate must be"):
        HyrexQueue("main", rate="often")


def test_remote_stub_can_be_sent_but_not_called() -> None:
    hy = HyrexRegistry(queue="elsewhere")

    @hy.remote(name="billing.charge", max_retries=2)
    def charge(customer: int, cents: int) -> bool:
        raise NotImplementedError

    assert charge.name == "billing.charge"
    assert (charge.config.queue, charge.config.max_retries) == ("elsewhere", 2)
    assert charge.call(1, cents=5)._payload == b'{"customer":1,"cents":5}'
    assert not hy.tasks
    with pytest.raises(TypeError, match="remote stub"):
        charge(1, 2)
    with pytest.raises(TypeError, match="no type hint"):

        @hy.remote(name="x")
        def stub(a) -> None: ...  # type: ignore[no-untyped-def]


def test_attributes_of_the_function_do_not_shadow_those_of_the_task() -> None:
    def marked() -> None: ...

    vars(marked).update(config="mine", options=1, function=2)
    task = HyrexRegistry().task(marked)
    assert task.config.name == "marked"
    assert task.function is marked


def test_calling_a_task_runs_it_here_with_its_defaults() -> None:
    hy = HyrexRegistry()

    @hy.task
    async def double(x: int, times: int = 2) -> int:
        return x * times

    coroutine = double(4)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value == 8
    assert double.is_async
