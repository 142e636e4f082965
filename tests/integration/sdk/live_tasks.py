"""Tasks for the test of the live fixtures."""

from hyrex import HyrexApp, HyrexRegistry

hy = HyrexRegistry()
app = HyrexApp("live")


@hy.task
def divide(a: int, b: int) -> float:
    return a / b


app.add_registry(hy)
