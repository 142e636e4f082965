"""Of which nodes' results the result of a workflow is made: what its body returned, as names of nodes.

It is a name, a list of names, an object of names, or null: then it is an object of all nodes that no other
waits for. It travels in a header of the workflow's task.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from hyrex.errors import WorkflowInvalid
from hyrex.workflows.building import Building
from hyrex.workflows.node import WorkflowNode
from hyrex.workflows.references import ResultOf

__all__ = ["RESULT_HEADER", "Template", "composed", "names_in", "read_template", "template_of", "written"]

Template = str | list[str] | dict[str, str] | None
RESULT_HEADER: Final = "hyrex-result"


def template_of(made: Building, returned: object) -> Template:
    """What a body returned, by the names of its nodes. Raises WorkflowInvalid."""
    if returned is None:
        return None
    if isinstance(returned, list | tuple):
        return [_name(made, each) for each in returned]
    if isinstance(returned, dict):
        return {str(key): _name(made, each) for key, each in returned.items()}
    return _name(made, returned)


def _name(made: Building, returned: object) -> str:
    if isinstance(returned, ResultOf) and returned.node._building is made:
        return str(returned.node.name)
    if isinstance(returned, WorkflowNode):
        raise WorkflowInvalid(f"workflow {made.name} returns {returned.title}; return its .result")
    raise WorkflowInvalid(
        f"workflow {made.name} returns {returned!r}, which is no result of its nodes; return one of these, "
        "a list or a dict of them, or nothing"
    )


def written(template: Template) -> str:
    """As the header has it."""
    return json.dumps(template, separators=(",", ":"), ensure_ascii=False)


def read_template(header: str | None) -> Template:
    """What written() has written; None for what is none, which another program sent."""
    try:
        found = json.loads(header or "null")
    except ValueError:
        return None
    names = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
    return found if all(isinstance(each, str) for each in names) else None


def names_in(template: Template) -> list[str]:
    """The names of the nodes that it is made of, in order."""
    if isinstance(template, dict):
        return list(template.values())
    return [template] if isinstance(template, str) else list(template or ())


def composed(template: Template, results: Mapping[str, bytes]) -> bytes:
    """The result of a workflow as JSON, from those of its nodes."""
    if isinstance(template, str):
        return results[template]
    if isinstance(template, list):
        return b"[%s]" % b",".join(results[name] for name in template)
    pairs: Iterable[tuple[str, str]] = (
        ((name, name) for name in results) if template is None else template.items()
    )
    return b"{%s}" % b",".join(b"%s:%s" % (json.dumps(key).encode(), results[name]) for key, name in pairs)
