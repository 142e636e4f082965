"""Celery's canvas and the DAGs of Airflow's tutorial, with a real broker and a real worker."""

from examples.workflows import airflow_tutorial, canvas
from hyrex import get_task
from hyrex.testing.live import LiveHyrex

WITHIN_S = 120.0
ORDERS = '{"1001": 301.27, "1002": 433.21, "1003": 502.22}'


def test_the_canvas_and_the_tutorials_give_what_they_give_elsewhere(hyrex_live: LiveHyrex) -> None:
    hyrex_live.start_worker("examples.workflows.app:app", "-p", "1")
    chained, grouped, chord = canvas.chained.send(), canvas.grouped.send(10), canvas.chord.send(100)
    new_user, nobody = canvas.new_user.send("Ada"), canvas.new_user.send("Nobody")
    dag, taskflow = airflow_tutorial.tutorial.send(), airflow_tutorial.tutorial_taskflow.send(ORDERS)
    assert chained.result(WITHIN_S) == 64
    assert grouped.result(WITHIN_S) == list(range(0, 20, 2))
    assert chord.result(WITHIN_S) == 9900
    assert new_user.result(WITHIN_S) == "Ada: 3 contacts"
    assert new_user.nodes["send_welcome_mail"].result(WITHIN_S) == "welcome, ada"
    assert not nobody.wait(WITHIN_S)
    assert nobody.nodes["log_end"].result(WITHIN_S) == "Nobody: 0 contacts"
    assert set(dag.result(WITHIN_S)) == {"sleep", "templated"}
    assert taskflow.result(WITHIN_S) == "3 orders, 1236.70 in all"
    sent = airflow_tutorial.every_day.send("2026-11-28").result(WITHIN_S)
    assert sent == airflow_tutorial.every_day.send("2026-11-28").result(WITHIN_S)
    assert get_task(sent).wait(WITHIN_S)
