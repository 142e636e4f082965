"""Yesterday's workers: this version of the task knows no currency."""

from hyrex import HyrexApp, HyrexRegistry

hy = HyrexRegistry(queue="rolling")
app = HyrexApp("rolling")
app.add_registry(hy)


@hy.task(name="rolling.charge")
def charge(cents: int) -> str:
    return f"{cents} of yesterday"
