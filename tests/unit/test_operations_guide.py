"""docs/operations.md and the alert rules speak of what there is, and of all of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import codebase
from codebase.engine.reactions.desk import LONGEST_PAUSE_SECONDS
from codebase.foundation.observability.metrics import RequestMetrics
from codebase.services.transact import at_work

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
RULES = ROOT / "config/prometheus/alerts.yml"
NAME = re.compile(r"orderly_[a-z_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


def exported() -> set[str]:
    """Every metric that any process of ours may tell of, named as its samples are."""
    for module in walk_packages(codebase.__path__, "codebase."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    families = text_string_to_metric_families(RequestMetrics().render().decode())
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if family.name.startswith("orderly_")
    }


def rows(heading: str) -> list[list[str]]:
    """The cells of the table in a section of the guide."""
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_guide_names_every_metric_and_no_other() -> None:
    named = [row[0].strip("`") for row in rows("Metrics")]
    assert len(named) == len(set(named))
    assert set(named) == exported()


def test_the_guide_explains_every_alert_and_no_other() -> None:
    explained = [row[0].strip("`") for row in rows("Alerts")]
    assert explained == [rule["alert"] for rule in alerts()]


def test_alerts_watch_metrics_that_exist() -> None:
    known = exported() | {f"{name}{suffix}" for name in exported() for suffix in SUFFIXES}
    for rule in alerts():
        watched = set(NAME.findall(rule["expr"]))
        assert watched <= known, rule["alert"]
        assert watched or "up{" in rule["expr"], rule["alert"]


def test_the_rules_are_what_prometheus_takes(tmp_path: Path) -> None:
    """Where Prometheus' own checker is installed it has the last word."""
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        for opening, closing in ("()", "{}", "[]"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run(
            [promtool, "check", "rules", str(RULES)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dashboards_show_metrics_that_exist() -> None:
    known = exported() | {f"{name}{suffix}" for name in exported() for suffix in SUFFIXES}
    for path in (ROOT / "config").rglob("*.json"):
        assert set(NAME.findall(path.read_text(encoding="utf-8"))) <= known, path


@pytest.mark.parametrize(
    "of", ["orderly_reaction_", "orderly_transactions_", "orderly_alerts_", "orderly_fraud_"]
)
def test_the_dashboard_shows_whatever_is_told_of_what_must_not_be_lost(of: str) -> None:
    shown = NAME.findall((ROOT / "config/grafana/dashboards/orderly.json").read_text())
    told = {name for name in exported() if name.startswith(of)}
    assert told
    assert told <= set(shown)


def test_the_guide_says_when_transactions_go_on_at_the_latest() -> None:
    rest = LONGEST_PAUSE_SECONDS + at_work.LONGEST_PAUSE_SECONDS
    assert f"at the latest {rest:.0f} s later" in GUIDE
