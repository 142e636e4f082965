"""What deploy/ asks Prometheus for exists, and each alert has its section in the runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.observing.test_metrics import listed
from tests.support.process import ROOT

yaml: Final[Any] = pytest.importorskip("yaml")  # comes with mkdocs
DEPLOY: Final = ROOT / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
NAME: Final = re.compile(r"\bhyrex_\w+")
SUFFIXES: Final = ("_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every query with where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    board = json.loads((DEPLOY / "grafana" / "hyrex.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        yield variable["name"], variable["query"]
    for trigger in yaml.safe_load((DEPLOY / "keda" / "scaledobject.yaml").read_text())["spec"]["triggers"]:
        yield "keda", trigger["metadata"]["query"]


def known() -> set[str]:
    """The names that a query may use: of a histogram those of its parts."""
    names = listed()
    parts = {f"{name}{suffix}" for name, kind in names.items() if kind == "histogram" for suffix in SUFFIXES}
    return parts | {name for name, kind in names.items() if kind != "histogram"}


def test_every_metric_that_deploy_names_exists() -> None:
    asked = list(queries())
    assert len(asked) > 30
    missing = [(place, name) for place, query in asked for name in NAME.findall(query) if name not in known()]
    assert not missing


def test_every_metric_but_a_few_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {name for _, query in queries() for name in NAME.findall(query)}
    parts = {name for each in asked for name in (each, *(each.removesuffix(suffix) for suffix in SUFFIXES))}
    unused = listed().keys() - parts
    assert unused == {
        "hyrex_broker_info",
        "hyrex_gateway_info",
        "hyrex_gateway_calls_total",
        "hyrex_worker_info",
        "hyrex_worker_children",
        "hyrex_worker_run_seconds",
        "hyrex_worker_runs_ended_total",
        "hyrex_worker_slots",
    }


def test_every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over() -> None:
    runbook = (ROOT / "docs" / "operating" / "runbook.md").read_text()
    sections = re.findall(r"^## (\w+)$", runbook, re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]
    for rule in rules():
        anchor = f"runbook.html#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"].endswith(anchor)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True, timeout=60)
    plain = [query.replace("$__rate_interval", "5m") for _, query in queries() if "label_values" not in query]
    made = [{"record": f"hyrex:q{n}", "expr": query} for n, query in enumerate(plain) if "hyrex_" in query]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
    subprocess.run(["promtool", "check", "rules", str(file)], check=True, timeout=60)
