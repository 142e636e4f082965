"""backlog_ratio: cost of an assign with millions of ready tasks over its cost with a thousand.

Two databases take turns, assign by assign; each round trips a batch of 500 tasks: assign (timed),
report, and submit as many again. The costs are those of the statement, seen by its caller.
"""

from statistics import median

from benchmarks.figures import Results
from benchmarks.rounds import say
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

SMALL = 1_000
WITHIN_S = 3600.0
WARM_UP = 5


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note the ratio and both costs."""
    few = stage.actor("assigner", stage.database())
    many = stage.actor("assigner", stage.database())
    few.ask(WITHIN_S, fill=SMALL)
    say(f"  inserting {sizes.backlog:,} ready tasks")
    many.ask(WITHIN_S, fill=sizes.backlog)
    costs: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM_UP + sizes.backlog_assigns):
        for each, found in zip((few, many), costs, strict=True):
            cost = each.ask(WITHIN_S, assign=500)["ms"]
            if number >= WARM_UP:
                found.append(cost)
    small, large = (median(found) for found in costs)
    pairs = [above / below for below, above in zip(*costs, strict=True)]
    results.add(
        backlog_ratio=round(median(pairs), 3),
        backlog_assign_ms={"few": round(small, 2), "many": round(large, 2)},
        backlog_tasks=sizes.backlog,
    )
