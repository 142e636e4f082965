"""The templates: everything is escaped, undefined names are errors, and hidden characters are shown."""

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from hyrex.dashboard.render import charts, json_view, timeline, tracebacks, traces, values
from hyrex.dashboard.render.text import shortened, visible
from hyrex.runtime.shell import shell_word
from hyrex.transport.failures import LINE_OF_FAILURES

HERE: Final = Path(__file__).parents[1]
LIVE: Final = "live_"


class Templates:
    """Pages, and the live parts of them: blocks whose names begin with `live_`."""

    def __init__(self, shared: Mapping[str, Any]) -> None:
        """`shared`: what every template knows."""
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["exact"] = _exact
        self._environment.globals.update(_functions())
        self._environment.globals.update(shared)
        self._environment.globals["ui"] = self._environment.get_template("_ui.html").module

    def page(self, name: str, context: Mapping[str, Any]) -> str:
        """A whole page."""
        return self._template(name).render(context)

    def regions(self, name: str, context: Mapping[str, Any]) -> dict[str, str]:
        """The HTML of each live block of a page, by its name."""
        template = self._template(name)
        return {
            block: "".join(render(template.new_context(dict(context))))
            for block, render in template.blocks.items()
            if block.startswith(LIVE)
        }

    def _template(self, name: str) -> Template:
        return self._environment.get_template(name)


def _shown(value: Any) -> Any:
    """What an expression of a template becomes, before it is escaped."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


@pass_context
def _may(context: Context, path: str) -> bool:
    """True unless the dashboard is read-only, or it is known that the token of who looks lacks the scope."""
    if context["read_only"]:
        return False
    caller = context.get("caller")
    return caller is None or context["scope_of"][path] in caller.scopes


@pass_context
def _ask(context: Context, path: str, *words: str) -> Any:
    """The button of an action; nothing for who may not do it."""
    return context["ui"].ask(path, *words) if _may(context, path.partition("?")[0]) else ""


def _exact(value: str) -> Markup:
    """Text that a form or an address carries: escaped, and otherwise as it is."""
    return Markup(escape(value))


def _functions() -> dict[str, Any]:
    return {
        "absent": values.ABSENT,
        "ask": _ask,
        "may": _may,
        "bulk_state": values.bulk_state,
        "bulk_word": values.bulk_word,
        "bulk_filter": values.bulk_filter,
        "bytes_text": values.bytes_text,
        "content": json_view.content,
        "drawn": charts.drawn,
        "exactly": values.exactly,
        "line_of_failures": LINE_OF_FAILURES,
        "looks": json_view.LOOKS,
        "duration": values.duration,
        "moment": values.moment,
        "number": lambda value: Markup(values.number(value)),
        "parts_of": tracebacks.parts_of,
        "one_word": values.one_word,
        "query": values.query,
        "rate": lambda value: Markup(values.rate(value)),
        "queue_rate": values.queue_rate,
        "run_word": values.run_word,
        "cause_word": values.cause_word,
        "shell": shell_word,
        "short": shortened,
        "bars_of": timeline.bars_of,
        "slot_word": values.slot_word,
        "spark": charts.spark,
        "task_word": values.task_word,
        "time": values.time_tag,
        "trace_of": traces.trace_of,
        "utc": UTC,
    }
