"""Today's senders and workers: the task has one more optional parameter."""

from hyrex import HyrexApp, HyrexRegistry

hy = HyrexRegistry(queue="rolling")
app = HyrexApp("rolling")
app.add_registry(hy)


@hy.task(name="rolling.charge")
def charge(cents: int, currency: str = "EUR") -> str:
    return f"{cents} {currency}"
