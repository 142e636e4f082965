"""A workflow's graph as SVG: boxes that are links, with their state by colour, sign and word."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from hyrex.dashboard.graph.nodes import ShownNode, counted, worst
from hyrex.dashboard.graph.places import BOX_HEIGHT, BOX_WIDTH, Layout
from hyrex.dashboard.render.text import shortened, visible
from hyrex.transport.node_words import ENDED, ended_of

LONGEST_LABEL: Final = 24
LONGEST_TITLE: Final = 300
NAMES_IN_A_TITLE: Final = 10


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where boxes lead, and where signs are."""

    icons: str
    of_node: Callable[[ShownNode], str]
    of_box: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its nodes, how it is called, and what is said below."""

    place: int
    nodes: tuple[ShownNode, ...]
    words: Counter[str]
    label: str
    note: str

    @property
    def word(self) -> str:
        """The state that its look tells."""
        return worst(self.words)


def boxes_of(layout: Layout, nodes: Sequence[ShownNode], sent: Mapping[str, int]) -> list[Box]:
    """The boxes of a layout as they stand. `sent`: how many tasks the runs of a task sent."""
    return [
        _box(place, tuple(nodes[at] for at in members), sent)
        for place, members in enumerate(layout.folded.boxes)
    ]


def drawn_graph(layout: Layout, boxes: Sequence[Box], chosen: int | None, addresses: Addresses) -> Markup:
    """The SVG. `chosen`: the box beside which its nodes are shown."""
    head = Markup(
        '<svg class="graph" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" role="group"'
        ' aria-label="{2}"><defs><marker id="line-end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 .5 7.5 4 0 7.5z"/></marker></defs>'
    ).format(layout.width, layout.height, _summary(boxes))
    lines = Markup("").join(_lines(layout, boxes))
    drawn = (_drawn_box(layout, box, box.place == chosen, addresses) for box in boxes)
    return head + lines + Markup("").join(drawn) + Markup("</svg>")


def _box(place: int, nodes: tuple[ShownNode, ...], sent: Mapping[str, int]) -> Box:
    words = counted(nodes)
    children = sum(sent.get(node.task.task_id, 0) for node in nodes)
    more = f" · sent {children}" if children else ""
    if len(nodes) > 1:
        tasks = {node.task.name for node in nodes}
        label = tasks.pop() if len(tasks) == 1 else f"{nodes[0].name} … {nodes[-1].name}"
        return Box(place, nodes, words, label or "hidden nodes", _counts(words, len(nodes)) + more)
    return Box(place, nodes, words, nodes[0].name, _state(nodes[0]) + more)


def _state(node: ShownNode) -> str:
    if not node.is_seen:
        return "not to be seen"
    if node.word == "blocked":
        return "waits for a call" if node.approval and node.ready_at else "waits"
    text = node.word.replace("_", " ")
    return f"{text} · run {node.runs}" if node.runs > 1 else text


def _counts(words: Counter[str], count: int) -> str:
    look = worst(words)
    if words[look] == count:
        return f"all {look.replace('_', ' ')}"
    return f"{ended_of(words)} ended, {words[look]} {look.replace('_', ' ')}"


def _summary(boxes: Sequence[Box]) -> str:
    count = sum(len(box.nodes) for box in boxes)
    return f"The graph of {count} node{'s' if count != 1 else ''}; each box is a link"


def _lines(layout: Layout, boxes: Sequence[Box]) -> Iterator[Markup]:
    for (begin, end), points in layout.paths.items():
        looks = ["line"]
        if layout.folded.lines[begin, end]:
            looks.append("is-anyway")
        if all(word in ENDED for word in boxes[begin].words):
            looks.append("is-past")
        yield Markup('<path class="{}" d="{}" marker-end="url(#line-end)"/>').format(
            " ".join(looks), _path(points)
        )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Curves between layers, straight lines through them."""
    (x, y), *others = points
    parts = [f"M{x:.0f} {y:.0f}"]
    for place, (next_x, next_y) in enumerate(others):
        if place % 2:
            parts.append(f"H{next_x:.0f}")
        else:
            middle = (x + next_x) / 2
            parts.append(f"C{middle:.0f} {y:.0f} {middle:.0f} {next_y:.0f} {next_x:.0f} {next_y:.0f}")
        x, y = next_x, next_y
    return "".join(parts)


def _drawn_box(layout: Layout, box: Box, chosen: bool, addresses: Addresses) -> Markup:
    x, y = layout.corners[box.place]
    parts = [Markup("<title>{}</title>").format(visible(_title(box)))]
    if len(box.nodes) > 1:
        parts.append(_rect("behind", x + 4, y + 4))
    parts.append(_rect("frame", x, y))
    parts.append(Markup('<use href="{}#{}" x="{:.0f}" y="{:.0f}" width="15" height="15"/>').format(
        addresses.icons, box.word, x + 10, y + 25
    ))  # fmt: skip
    count = Markup('<tspan class="many"> ×{}</tspan>').format(len(box.nodes)) if len(box.nodes) > 1 else ""
    # An SVG of its own cuts what is too long, whatever the script.
    parts.append(
        Markup(
            '<svg x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}"><text class="label" x="10"'
            ' y="18">{}{}</text><text class="note" x="30" y="37">{}</text></svg>'
        ).format(
            x, y, BOX_WIDTH - 6, BOX_HEIGHT, visible(shortened(box.label, LONGEST_LABEL)), count, box.note
        )
    )
    inner = Markup("").join(parts)
    node = box.nodes[0]
    if len(box.nodes) == 1 and not node.is_seen:
        return Markup('<g id="b-{}" class="box is-{}">{}</g>').format(box.place, box.word, inner)
    address = addresses.of_node(node) if len(box.nodes) == 1 else addresses.of_box(box.place)
    return Markup('<a id="b-{}" class="box is-{}" href="{}"{}>{}</a>').format(
        box.place, box.word, address, Markup(' aria-current="true"') if chosen else "", inner
    )


def _rect(look: str, x: float, y: float) -> Markup:
    return Markup('<rect class="{}" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="6"/>').format(
        look, x, y, BOX_WIDTH, BOX_HEIGHT
    )


def _title(box: Box) -> str:
    """What the box is, for who hovers over it or hears it."""
    node = box.nodes[0]
    if len(box.nodes) == 1:
        task = f" ({shortened(node.task.name, 100)})" if node.task.name not in ("", node.name) else ""
        return f"{shortened(box.label, LONGEST_TITLE)}{task}: {box.note}"
    names = ", ".join(shortened(node.name, 40) for node in box.nodes[:NAMES_IN_A_TITLE])
    more = len(box.nodes) - NAMES_IN_A_TITLE
    states = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in box.words.most_common())
    return f"{len(box.nodes)} nodes: {states}\n{names}{f' and {more} more' if more > 0 else ''}"
