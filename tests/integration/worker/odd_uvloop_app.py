"""The odd tasks, on the event loop that many an app installs."""

import uvloop

from tests.integration.worker.odd_app import app

__all__ = ["app"]

uvloop.install()
