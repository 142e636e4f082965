"""Puts results of other nodes into a node's payload, as its workflow binds them to parameters.

Both are JSON: a payload is an object {parameter: value}, and a result is a value. A parameter that ends in
"[]" is given several results, as a list in their order.
"""

from collections.abc import Iterable
from json import dumps
from typing import Final

from hyrex.errors import ArgumentInvalid

__all__ = ["LISTED", "with_results"]

LISTED: Final = "[]"


def with_results(task_name: str, payload: bytes, results: Iterable[tuple[str, bytes]]) -> bytes:
    """The payload with these results, by parameter. Raises ArgumentInvalid if it is no object."""
    content = payload.strip()
    if not (content.startswith(b"{") and content.endswith(b"}")):
        raise ArgumentInvalid(f"{task_name}: the payload of a node must be a JSON object")
    parts = [inner] if (inner := content[1:-1].strip()) else []
    lists: dict[str, list[bytes]] = {}
    for parameter, result in results:
        if parameter.endswith(LISTED):
            lists.setdefault(parameter.removesuffix(LISTED), []).append(result or b"null")
        else:
            parts.append(b"%s:%s" % (_quoted(parameter), result or b"null"))
    parts += [b"%s:[%s]" % (_quoted(name), b",".join(values)) for name, values in lists.items()]
    return b"{%s}" % b",".join(parts)


def _quoted(name: str) -> bytes:
    # Parameters are identifiers of Python, mostly; what is not is escaped as JSON wants it.
    return b'"%s"' % name.encode() if name.isidentifier() else dumps(name).encode()
