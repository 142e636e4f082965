"""What Celery's documentation shows of its canvas, with Hyrex.

There `add.s(2, 2)` makes a signature; here `add.node(2, 2)` makes a node. What Celery hands to the next task
by its place, Hyrex hands on by name: the argument is the node's `.result`, and its type is checked.
"""

from hyrex import HyrexRegistry

hy = HyrexRegistry()


@hy.task
def add(x: int, y: int) -> int:
    """The sum of two."""
    return x + y


@hy.task
def mul(x: int, y: int) -> int:
    """The product of two."""
    return x * y


@hy.task
def tsum(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@hy.task
def create_user(name: str) -> str:
    """Makes an account; its name is what the others need."""
    return name.lower()


@hy.task
def import_contacts(user: str) -> int:
    """How many contacts were found."""
    if user == "nobody":
        raise LookupError(f"{user} has no address book")
    return len(user)


@hy.task
def send_welcome_mail(user: str) -> str:
    """Greets the user."""
    return f"welcome, {user}"


@hy.task
def log_end(user: str, contacts: int = 0) -> str:
    """Notes what became of it, good or bad."""
    return f"{user}: {contacts} contacts"


@hy.workflow
def chained() -> int:
    """chain(add.s(2, 2), add.s(4), mul.s(8))"""
    four = add.node(2, 2)
    eight = add.node(four.result, 4)
    return mul.node(eight.result, 8).result


@hy.workflow
def grouped(count: int) -> list[int]:
    """group(add.s(i, i) for i in range(count))"""
    return [add.node(i, i).result for i in range(count)]


@hy.workflow
def chord(count: int) -> int:
    """chord((add.s(i, i) for i in range(count)), tsum.s())"""
    return tsum.node([add.node(i, i).result for i in range(count)]).result


@hy.workflow
def new_user(name: str) -> str:
    """create_user.s(name) | group(import_contacts.s(), send_welcome_mail.s()), with a link_error"""
    user = create_user.node(name)
    contacts = import_contacts.node(user.result)
    send_welcome_mail.node(user.result)
    return log_end.node(name, contacts.result).runs_anyway().result
