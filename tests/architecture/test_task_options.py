"""The places that name a task's options agree: docs/contributing/task-option.md lists them."""

import inspect
import re
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, Final, get_overloads

import pytest
from google.protobuf.message import Message

from hyrex import HyrexQueue, HyrexRegistry, HyrexTask, retry
from hyrex.backend.outgoing import prepare
from hyrex.definition import TaskOptions
from hyrex.options import CHANGEABLE, SendOptions, TaskConfig
from hyrex.sendable import Sendable
from hyrex.transport import convert
from hyrex.v1 import task_pb2, task_service_pb2, worker_service_pb2
from hyrex.worker.shared.runs import RunTerms
from hyrex_broker.domain.carried_rows import RULES
from hyrex_broker.domain.model import CARRIED
from hyrex_broker.domain.outbox import OPTIONS as OUTBOX_OPTIONS
from hyrex_broker.storage.statements import load
from tests.support.groups import ungrouped
from tests.support.pages import read, section
from tests.support.process import ROOT

PAGE: Final = "docs/reference/api.md"
API: Final = read(PAGE)
OPTIONS: Final = [each.name for each in fields(TaskOptions)]
# With the task's definition, from its worker; and what only the child that runs it knows.
BY_DEFINITION: Final = {"max_concurrency", "rate", "burst"}
# With the schedule that its worker declares.
BY_SCHEDULE: Final = {"cron", "tz"}
IN_CHILDREN: Final = {"no_retry_on", "on_error"}
OTHER_NAMES: Final = {"timeout_seconds": "timeout", "retry_backoff": "retry_delay"}
# `outside` is what makes an approval one.
NO_OPTIONS: Final = {"task_id", "payload", "content_type", "codec", "parent_id", "root_id", "outside"}
EXAMPLES: Final[dict[str, Any]] = {
    "name": "other", "queue": "other", "max_retries": 7, "timeout_seconds": 7, "priority": 7,
    "retry_backoff": 7, "idempotency_key": "k", "delay": 7, "run_at": datetime(2030, 1, 1, tzinfo=UTC),
    "headers": {"a": "b"}, "labels": {"a": "b"}, "expires_in": 7,
    "debounce_key": "k", "debounce_max_wait": 7,
    "concurrency_key": "k", "max_per_key": 7, "on_full": "refuse", "fair_key": "k",
}  # fmt: skip

NEEDS: Final[dict[str, dict[str, Any]]] = {
    "debounce_key": {"delay": 7},
    "debounce_max_wait": {"delay": 7, "debounce_key": "k"},
    "max_per_key": {"concurrency_key": "k"},
    "on_full": {"concurrency_key": "k"},
}


def parameters(function: Any) -> list[str]:
    """Its parameters by keyword."""
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind is inspect.Parameter.KEYWORD_ONLY]


def plain(**options: Any) -> HyrexTask[..., Any]:
    """A task with these options."""

    def function() -> None:
        """Do nothing."""

    return HyrexRegistry().task(**options)(function)


def wire_fields(target: Sendable[..., Any]) -> set[str]:
    """The fields of NewTask that are not empty when it is sent: in a frame and alone."""
    sent = prepare(target._spec, b"{}")
    groups, _ = convert.submit_groups([sent])
    (task,) = ungrouped(task_service_pb2.StreamSubmitRequest.FromString(groups).groups)
    found = {field.name for field, _ in task.ListFields()}
    alone = task_service_pb2.SubmitTasksRequest.FromString(convert.submit_request([sent])).tasks[0]
    assert found == {field.name for field, _ in alone.ListFields()}
    return found


def sent_options() -> set[str]:
    """Options that travel with each task."""
    return set(OPTIONS) - BY_DEFINITION - BY_SCHEDULE - IN_CHILDREN | {
        each.name for each in fields(SendOptions)
    }


def test_decorator_takes_what_task_options_hold() -> None:
    (decorator,) = [each for each in get_overloads(HyrexRegistry.task) if parameters(each)]
    assert parameters(decorator) == OPTIONS
    annotations = {name: str(annotation) for name, annotation in inspect.get_annotations(decorator).items()}
    assert {name: annotations[name].removesuffix(" | None") for name in OPTIONS} == {
        each.name: str(each.type).removesuffix(" | None") for each in fields(TaskOptions)
    }


def test_configuration_holds_every_option() -> None:
    of_sends = {each.name for each in fields(SendOptions)}
    assert [each.name for each in fields(TaskConfig)] == [each for each in OPTIONS if each not in of_sends]


def test_with_config_takes_what_is_sent_and_no_more() -> None:
    assert set(CHANGEABLE) <= set(OPTIONS)
    assert set(parameters(Sendable.with_config)) == {
        *CHANGEABLE,
        *(each.name for each in fields(SendOptions)),
    }


def documented_options() -> dict[str, str]:
    """Each option that the reference lists, with its default in parentheses."""
    items = re.findall(
        r"^- (`\w+`(?:, `\w+`)*) \((.*?)\): ", section(PAGE, "Options of a task"), re.MULTILINE
    )
    return {name: default for names, default in items for name in re.findall(r"\w+", names)}


def test_reference_lists_every_option_and_no_other() -> None:
    assert list(documented_options()) == OPTIONS


def test_reference_states_the_defaults() -> None:
    said = documented_options()
    for each in fields(TaskConfig):
        if each.default is MISSING or each.name == "retry_backoff":
            continue
        words = {None: "none"}.get(each.default, str(each.default))
        assert said[each.name].strip("`").strip('"') == words, each.name


def test_reference_states_the_default_backoff() -> None:
    words = f"`min(2**(n-1), {retry.LONGEST_S:.0f})` s ± {retry.JITTER:.0%}"
    assert documented_options()["retry_backoff"] == words


@pytest.mark.parametrize(
    ("call", "function"),
    [
        ("f.with_config", Sendable.with_config),
        ("HyrexRegistry", HyrexRegistry.__init__),
        ("HyrexQueue", HyrexQueue.__init__),
    ],
)
def test_reference_names_the_parameters_of(call: str, function: Any) -> None:
    (named,) = re.findall(rf"`{re.escape(call)}\(([^)]*=)\)`", API)
    own = [name for name in inspect.signature(function).parameters if name != "self"]
    assert [each.strip().rstrip("=") for each in named.split(",")] == own


def test_every_field_of_the_wire_is_an_option_or_the_sdks_own() -> None:
    named = {OTHER_NAMES.get(option, option) for option in sent_options()}
    assert {field.name for field in task_pb2.NewTask.DESCRIPTOR.fields} == named | NO_OPTIONS


@pytest.mark.parametrize("option", sorted(sent_options()))
def test_option_that_is_said_reaches_the_wire(option: str) -> None:
    said = {option: EXAMPLES[option]} | NEEDS.get(option, {})
    target: Sendable[..., Any] = plain(**said) if option in OPTIONS else plain().with_config(**said)
    silent = wire_fields(plain())
    assert OTHER_NAMES.get(option, option) in wire_fields(target)
    always = {"name", "queue", "priority"}
    assert (OTHER_NAMES.get(option, option) in silent) == (option in always)


def test_definitions_tell_brokers_of_the_limit() -> None:
    messages = (worker_service_pb2.TaskDefinition, task_pb2.Rate)
    named = {field.name for message in messages for field in message.DESCRIPTOR.fields}
    assert named >= BY_DEFINITION


def test_checklist_names_every_file_that_options_pass_through() -> None:
    """Files that know both `max_retries` and a timeout; templates and generated code apart."""
    checklist = read("docs/contributing/task-option.md")
    places = [
        *(ROOT / "hyrex").rglob("*.py"),
        *(ROOT / "broker").rglob("*.py"),
        *(ROOT / "proto").rglob("*.proto"),
    ]
    places += (ROOT / "broker").rglob("sql/*.sql")
    timeout = re.compile(r"timeout_(?:ms|ns|seconds|s)\b|\btimeout = \d")
    missing = []
    for place in places:
        text = place.read_text(encoding="utf-8")
        name = str(place.relative_to(ROOT))
        if "max_retries" in text and timeout.search(text) and not name.startswith("hyrex/v1/"):
            missing += [name] * (f"`{name.removeprefix('broker/hyrex_broker/')}`" not in checklist)
    assert missing == []


CHECKLIST: Final = "docs/contributing/task-option.md"
MOST_FILES: Final = 20


def test_carried_option_touches_at_most_20_files() -> None:
    """The steps of its list, and the paragraph of tests and pages below; without what is generated."""
    text = section(CHECKLIST, "One that the broker only carries")
    steps, below = text[text.index("1. ") :].split("\nThen `", 1)
    code = set(re.findall(r"`([\w/]+\.(?:py|sql|proto))`", steps))
    assert len(code) == int(re.findall(r"These (\d+) files", text)[0])
    beside = re.findall(r"`([\w/-]+\.(?:py|md))`", below.split("\n\n")[0].split("If ")[0])
    assert len(beside) == 4
    assert len(code | {*beside}) <= MOST_FILES


def test_rows_from_a_database_beside_have_a_rule_for_each_option_of_the_outbox() -> None:
    assert {*RULES} == {*OUTBOX_OPTIONS}


@pytest.mark.parametrize("message", [task_pb2.NewTask, task_pb2.Task, worker_service_pb2.AssignmentGroup])
def test_messages_have_every_carried_option(message: type[Message]) -> None:
    assert {*CARRIED} <= {*message.DESCRIPTOR.fields_by_name}


def test_workers_are_told_every_carried_option() -> None:
    assert {*CARRIED} <= {*RunTerms.__struct_fields__}


@pytest.mark.parametrize(
    "name",
    [
        "submit",
        "submit_again",
        "submit_waiting",
        "submit_debounced",
        "submit_handing_off",
        "submit_keyed",
        "submit_keyed_handing_off",
    ],
)
def test_every_submit_stores_carried_options_in_their_order(name: str) -> None:
    statement = re.sub(r"--.*", "", load("submit")[name])
    named = [word for word in re.findall(r"\w+", statement) if word in CARRIED]
    lists = len(named) // len(CARRIED)
    assert lists >= 3  # where they come from, what is selected, where they go
    assert named == [*CARRIED] * lists


def test_reads_and_assigns_return_carried_options() -> None:
    tasks = load("reads")["tasks"]
    assert all(f"t.{option}," in tasks for option in CARRIED)
    last = load("assign")["assign"].rpartition("\nfrom (")[0]
    assert last.endswith(", ".join(f"f.{option}" for option in CARRIED))
