"""The snippets of the API contract, as written there; only what they leave open is filled in.

What is filled in stands between the markers `given` and `end given`; the rest is compared with the
contract's text where that is at hand (test_seed.py).
"""

# given
# ruff: noqa
# end given
from hyrex import HyrexRegistry
from pydantic import BaseModel

hy = HyrexRegistry()


class ProcessContext(BaseModel):
    file_path: str
    options: dict


@hy.task
def process_file(context: ProcessContext):
    # Task logic
    print(f"Processing {context.file_path}")
    return {"status": "completed", "file": context.file_path}


@hy.task(
    queue="processing",          # Target queue
    max_retries=3,              # Retry attempts
    timeout_seconds=300,        # Timeout (5 minutes)
    priority=5,                 # 1-10 (higher = more important)
    retry_backoff=lambda n: n*10 # Backoff strategy
)
def configured_task(data: dict):
    # Process with specific configuration
    return {"processed": True}


from hyrex import get_hyrex_context


@hy.task
def task_with_context(data: dict):
    # Get current task context
    context = get_hyrex_context()

    if context:
        task_id = context.task_id
        attempt_number = context.attempt_number
        queue_name = context.queue

        print(f"Processing task {task_id} (attempt {attempt_number})")

        # Access parent task info if this is a sub-task
        if context.parent_id:
            print(f"Spawned by task: {context.parent_id}")

    # Your task logic here
    return {"processed_by": str(task_id) if context else "unknown"}


# given
class TemporaryError(Exception):
    """Passes by."""


class PermanentError(Exception):
    """Stays."""


def external_api_call(data: dict):
    attempt = get_hyrex_context().attempt_number
    if data["fails"] == "permanently":
        raise PermanentError("no such thing")
    if attempt < data["fails"]:
        raise TemporaryError(f"attempt {attempt}")
    return {"attempt": attempt}


# The contract's tasks keep the default backoff of a second and more; that is too long for a test.
_task = hy.task


def _quick(*args, **options):
    if options.get("max_retries") and "retry_backoff" not in options:
        options["retry_backoff"] = 0.05
    return _task(*args, **options)


hy.task = _quick


# end given
@hy.task(max_retries=3)
def task_with_retries(data: dict):
    try:
        # Attempt operation
        result = external_api_call(data)
        return result
    except TemporaryError:
        # This will trigger a retry
        raise
    except PermanentError as e:
        # This will not retry
        return {"error": str(e), "status": "failed"}


def error_handler(e: Exception):
    # Log error, send alert, etc.
    print(f"Task error: {type(e).__name__}: {str(e)}")


# given
def risky_operation(data: dict):
    return external_api_call(data)


# end given
@hy.task(
    max_retries=3,
    on_error=error_handler
)
def monitored_task(data: dict):
    # Task logic that might fail
    result = risky_operation(data)
    return result


# given
from typing import List


class PaymentContext(BaseModel):
    payment_id: int


class FetchContext(BaseModel):
    url: str


class RateLimitError(Exception):
    """Come back later."""


class InvalidDataError(Exception):
    """Will never work."""


PAYMENTS: dict[int, str] = {}


def payment_exists(payment_id: int) -> bool:
    return payment_id in PAYMENTS


def get_payment_result(payment_id: int) -> str:
    return PAYMENTS[payment_id]


def charge_card(context: PaymentContext) -> str:
    return f"charged {context.payment_id}"


def save_payment_result(payment_id: int, result: str) -> None:
    PAYMENTS[payment_id] = result


def fetch_from_api(url: str) -> str:
    if url == "invalid":
        raise InvalidDataError("not json")
    if get_hyrex_context().attempt_number == 0:
        raise RateLimitError("slow down")
    return f"fetched {url}"


# end given
class OrderContext(BaseModel):
    order_id: int
    customer_email: str
    items: List[dict]


@hy.task(timeout_seconds=30)  # Fast operations
# given
def fast_operation(order: OrderContext):
    return order.order_id


# end given
@hy.task(timeout_seconds=3600)  # Long-running jobs
# given
def long_running(order: OrderContext):
    return order.items


# end given
@hy.task
def process_payment(context: PaymentContext):
    # Check if already processed
    if payment_exists(context.payment_id):
        return get_payment_result(context.payment_id)

    # Process payment
    result = charge_card(context)
    save_payment_result(context.payment_id, result)
    return result


@hy.task(max_retries=3)
def fetch_data(context: FetchContext):
    try:
        return fetch_from_api(context.url)
    except RateLimitError:
        # Retry with backoff
        raise
    except InvalidDataError as e:
        # Don't retry, return error
        return {"error": str(e), "status": "invalid_data"}
