"""Makes threads belong to the run that starts them.

Tasks that such a thread sends have the run's task as parent, and while it waits, the run's slot is lent.
Python gives a new thread an empty context. In children, a thread begins with the run of the thread that
started it, and a call submitted to an executor with the run of the thread that submitted it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hyrex.context import bind_context, bound_in


def carry_context_into_threads() -> None:
    """Patch `Thread.start` and `ThreadPoolExecutor.submit` in this process."""
    start: Callable[[threading.Thread], None] = threading.Thread.start
    submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    def start_with_context(self: threading.Thread) -> None:
        bound, run = bound_in(), self.run
        if bound is not None and not self.name.startswith("hyrex-"):  # the SDK's own threads outlive the run

            def run_with_context() -> None:
                with bind_context(bound):
                    run()

            self.run = run_with_context  # type: ignore[method-assign]
        start(self)

    def submit_with_context(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        bound = bound_in()

        def call() -> Any:
            with bind_context(bound):
                return fn(*args, **kwargs)

        return submit(self, call)

    threading.Thread.start = start_with_context  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_with_context  # type: ignore[method-assign,assignment]
