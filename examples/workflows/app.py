"""The app that a worker serves: `hyrex run-worker examples.workflows.app:app`."""

from examples.workflows import airflow_tutorial, canvas
from hyrex import HyrexApp

app = HyrexApp("workflows")
app.add_registry(canvas.hy)
app.add_registry(airflow_tutorial.hy)
