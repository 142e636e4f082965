"""The task's argument, as in benchmarks/actors/app.py."""

from typing import Any


def order(number: int) -> dict[str, Any]:
    """About a hundred bytes of JSON."""
    return {
        "order_id": number,
        "customer": "customer-0123456789@example.com",
        "amount": 99.95,
        "express": True,
    }
