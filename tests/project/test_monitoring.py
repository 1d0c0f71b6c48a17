"""The alerts and the dashboard in containers/monitoring know what a server really says."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from small_server import small_server

FOLDER = Path(__file__).parents[2] / "containers" / "monitoring"
# `name{label="value"}` in PromQL, with or without the braces.
_SELECTOR = re.compile(r"\b((?:unmask|process)_\w+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')
_OF_PROMETHEUS = {"instance", "job"}  # labels that it adds

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: nothing shows here that the alerts fire",
)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Return the values of each label of each metric in a scrape."""
    with small_server(tmp_path_factory.mktemp("serve")) as server:
        server.get("/healthz")
        text = server.get("/metrics").body.decode()
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in parse(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def read_alerts() -> dict[str, Any]:
    [group] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def read_queries() -> list[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    assert len(asked) > 10
    return asked + [rule["expr"] for rule in read_alerts().values()]


@pytest.mark.parametrize("query", read_queries())
def test_what_is_asked_is_what_a_server_says(
    query: str, said: dict[str, dict[str, set[str]]]
) -> None:
    selectors = _SELECTOR.findall(query)
    assert selectors
    for name, matchers in selectors:
        assert name in said
        for label, operator, wanted in _MATCHER.findall(matchers):
            if label in _OF_PROMETHEUS:
                continue
            values = wanted.split("|") if operator == "=~" else [wanted]
            assert set(values) <= said[name][label], (name, label)
    for grouped in re.findall(r"by \(([\w, ]+)\)", query):
        for label in set(grouped.split(", ")) - _OF_PROMETHEUS:
            assert any(label in said[name] for name, _ in selectors), label


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]  # none lies on another
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len({panel["title"] for panel in panels}) == len(panels)


# What happens on the made servers a minute, for two days, and which alerts fire then.
_DOUBT = 'unmask_doubts_total{doubt="unlike_calibration",instance="s"}'
_FAKE, _REAL = (f'unmask_verdicts_total{{verdict="{v}",instance="s"}}' for v in ("fake", "real"))
_CRASHED = 'unmask_refusals_total{kind="crashed",instance="s"}'
_NO_VIDEO = 'unmask_refusals_total{kind="not_a_video",instance="s"}'
_READY, _WORKERS = 'unmask_workers_ready{instance="s"}', 'unmask_workers{instance="s"}'
_UP = 'up{job="unmask",instance="s"}'
_WELL = {_READY: "2x2900", _WORKERS: "2x2900", _UP: "1x2900", _FAKE: "0+1x2900"}
_CASES = {
    "all is well": (_WELL | {_DOUBT: "0+0.2x2900", _CRASHED: "0+0.05x2900"}, set()),
    "many files are no videos": (_WELL | {_NO_VIDEO: "0+9x2900"}, set()),
    "a process has no model": (_WELL | {_READY: "1x2900"}, {"UnmaskNotReady"}),
    "it is not reached": ({_UP: "0x2900"}, {"UnmaskNotReady"}),
    "decoders crash": (_WELL | {_CRASHED: "0+0.3x2900"}, {"UnmaskFailing"}),
    "all of them crash": (
        _WELL | {_FAKE: "0x2900", _CRASHED: "0+1x2900"}, {"UnmaskFailing"},
    ),
    "the videos are others": (_WELL | {_DOUBT: "0+0.5x2900"}, {"UnmaskVideosUnlikeCalibration"}),
    "few videos, all of them others": (
        _WELL | {_FAKE: "0+0.02x2900", _DOUBT: "0+0.02x2900"}, set(),
    ),
}  # fmt: skip


@needs_promtool
@pytest.mark.parametrize("case", _CASES)
def test_the_alerts_fire_when_they_should(case: str, tmp_path: Path) -> None:
    series, firing = _CASES[case]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": v} for name, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                    "eval_time": "2880m",
                    "exp_samples": [{"labels": "{}", "value": float(name in firing)}],
                }
                for name in read_alerts()
            ],
        }
    ]
    asked = {"rule_files": [str(FOLDER / "alerts.yaml")], "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(asked))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_configuration_and_a_scrape(tmp_path: Path) -> None:
    for words in (
        ("config", "prometheus.yaml"), ("config", "--syntax-only", "prometheus.compose.yaml"),
        ("rules", "alerts.yaml"),
    ):  # fmt: skip
        done = subprocess.run(
            ["promtool", "check", *words], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with small_server(tmp_path) as server:
        text = server.get("/metrics").body.decode()
    # Its advice on names of Prometheus's own library is left out.
    ours = "".join(f"{line}\n" for line in text.splitlines() if "_created" not in line)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=ours, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
