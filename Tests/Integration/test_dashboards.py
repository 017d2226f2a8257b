"""Dashboards, alert rules and scrape configuration: every query is run against a real scrape, and must show something."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass

import pytest
import yaml
from support.certificates import Authority
from support.processes import MODEL, ROOT, Metrics, Server, chat, eventually, free_port, request

CONFIG = ROOT / "Config"
CHAT = "/v1/chat/completions"
BROKEN = "broken-model"


def tool(name: str) -> str:
    path = shutil.which(name) or str(ROOT / ".tools" / name)
    if not shutil.which(path):
        pytest.skip(f"no {name}: Scripts/bootstrap.sh test fetches it")
    return path


def dashboards() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((CONFIG / "grafana/dashboards").glob("*.json"))}


def targets(kind: str) -> list[tuple[str, str]]:
    """Name and query of all panels that ask a data source of this type."""
    return [
        (f"{name}: {panel['title']}", target["query" if kind == "tempo" else "expr"])
        for name, dashboard in dashboards().items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == kind
    ]


def rules() -> list[dict]:
    groups = yaml.safe_load((CONFIG / "prometheus/rules/dynamo.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def filled_in(query: str) -> str:
    """The query as Grafana sends it: its own variables and the dashboards' with a value each."""
    values = {"__rate_interval": "1m", "__range": "5m", "instance": ".*", "model": ".*", "x_request_id": ".*", "slow": "1ms"}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], query)


def traffic(frontend: Server) -> None:
    """Something of everything: whole and streamed answers, a shared prefix, callers' faults, a worker that fails."""
    prompt = "You are a router that is looked at through dashboards. " * 8
    for number in range(3):
        for stream in (False, True):
            assert frontend.post(CHAT, chat(f"{prompt}{number % 2}", stream=stream))[0] == 200
    assert frontend.post(CHAT, b"{")[0] == 400
    assert frontend.post(CHAT, chat(model="nope"))[0] == 404
    assert frontend.post(CHAT, chat(model=BROKEN))[0] >= 500
    assert frontend.get("/" + "x" * 9000)[0] == 414


@dataclass
class Scene:
    pages: str
    prometheus: int | None
    tempo: Server

    def ask(self, path: str, **parameters: str) -> list | dict:
        if self.prometheus is None:
            pytest.skip("no prometheus: Scripts/bootstrap.sh test fetches it")
        status, _, body = request(self.prometheus, "GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, f"{parameters}: {answer}"
        return answer["data"]

    def shows(self, query: str) -> bool:
        """A scrape that took too long hides its page's figures until the next one, so that one look is not enough."""
        try:
            return bool(eventually(query, lambda: self.query(filled_in(query)), timeout=5))
        except AssertionError:
            return False

    def query(self, expression: str) -> list[float]:
        """The values of all series that the expression has now, without those that are no number."""
        found = [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]
        return [value for value in found if not math.isnan(value)]


def scrape(stack, ports: dict[str, list[int]]) -> int | None:
    """Prometheus with the configuration of this tree, told of these ports and not to wait for ten seconds each time."""
    program = shutil.which("prometheus") or shutil.which(str(ROOT / ".tools/prometheus"))
    if program is None:
        return None
    folder = stack.folder / "prometheus"
    shutil.copytree(CONFIG / "prometheus", folder)
    file = folder / "prometheus.yml"
    text = file.read_text()
    assert "scrape_interval: 10s" in text
    file.write_text(text.replace("scrape_interval: 10s", "scrape_interval: 1s"))
    for name, found in ports.items():
        assert (folder / f"targets/{name}.yml").exists()
        (folder / f"targets/{name}.yml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{port}" for port in found]}]))
    port = free_port()
    argv = [program, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
    server = Server(argv, stack.env(), stack.folder / "prometheus.log", port)
    stack.started.append(server)
    server.wait_for("/-/ready")
    return port


@pytest.fixture(scope="module")
def scene(shared_stack):
    stack = shared_stack
    page, grpc_port, http_port = free_port(), free_port(), free_port()
    flags = [f"--trace-store-{name}-port={port}" for name, port in (("http", page), ("otlp-grpc", grpc_port), ("otlp-http", http_port))]
    tempo = stack.server("tempo", ["dynamo-tempo", *flags], stack.env(), page)
    tempo.wait_for("/ready")
    traced = {
        "OTEL_EXPORT_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{grpc_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    workers = [stack.worker(env=traced) for _ in range(2)]
    broken = stack.upstream(BROKEN)
    broken.behaviour = lambda peer, seen: peer.reset()
    frontend = stack.frontend(
        "--worker", broken.url, "--router-queue-threshold=4", env={**traced, "DYN_TRACE_SPOOL_DIR": stack.folder / "spool"}
    )
    eventually("three workers", lambda: frontend.metrics().sum("dynamo_frontend_worker_up") == 3)
    # A second frontend, for what only TLS has.
    pair = Authority(stack.folder).issue()
    metrics = free_port()
    argv = ["dynamo-frontend", "--http-host=127.0.0.1", "--http-port=0", f"--metrics-listen=127.0.0.1:{metrics}"]
    argv += [f"--tls-cert-path={pair.certificate}", f"--tls-key-path={pair.key}"]
    secure = stack.server("secure", argv, stack.env(), metrics)
    secure.wait_for("/live")

    prometheus = scrape(stack, {"frontends": [frontend.port, metrics], "workers": [worker.port for worker in workers]})
    traffic(frontend)
    scene = Scene("", prometheus, tempo)
    if prometheus:
        # Rates need two scrapes with requests between them.
        total = 'sum(dynamo_frontend_requests_total{status="success"})'
        for seen in (6, 12):
            eventually(f"{seen} requests were scraped", lambda seen=seen: scene.query(total) == [seen], timeout=30)
            eventually("workers' pages were", lambda seen=seen: scene.query("sum(dynamo_component_requests_total)") == [seen], timeout=30)
            if seen == 6:
                traffic(frontend)
    scene.pages = "".join(server.metrics().text for server in (frontend, secure, *workers))
    return scene


def test_dashboards_are_as_their_script_writes_them():
    done = subprocess.run([sys.executable, ROOT / "Scripts/dashboards.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dashboards()
    assert set(found) == {"requests", "routing", "workers", "health", "traces"}
    assert len({dashboard["uid"] for dashboard in found.values()}) == 5
    for name, dashboard in found.items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert place["x"] + place["w"] <= 24 and not cells & taken, f"{name}: {panel['title']} lies over another"
            taken |= cells


def test_dashboards_ask_the_data_sources_that_are_provisioned():
    for folder in ("provisioning/datasources", "datasources-collector"):
        sources = [
            source
            for path in (CONFIG / "grafana" / folder).glob("*.yaml")
            for source in yaml.safe_load(path.read_text())["datasources"]
        ]
        uids = {source["uid"] for source in sources}
        assert sum(bool(source.get("isDefault")) for source in sources) == 1, "Grafana refuses two"
        used = set(re.findall(r'"uid": "(\w+)"', "".join(json.dumps(dashboard) for dashboard in dashboards().values())))
        assert used <= uids, f"{folder}: {used - uids}"
        named = set(re.findall(r"datasourceUid: (\w+)", "".join(p.read_text() for p in (CONFIG / "grafana" / folder).glob("*"))))
        assert named <= uids, f"{folder}: {named - uids}"
    provider = yaml.safe_load((CONFIG / "grafana/provisioning/dashboards/dynamo.yaml").read_text())["providers"][0]
    compose = (CONFIG / "compose/docker-compose.yml").read_text()
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in compose


def test_every_metric_and_label_is_on_a_page(scene):
    """Without Prometheus too: names, and labels of selectors and groups, exist on the pages of a frontend or a worker."""
    pages = Metrics(scene.pages)
    labels: dict[str, set[str]] = {}
    for name, have, _ in pages.samples:
        labels.setdefault(name, {"job", "instance"}).update(have)
    labels["up"] = {"job", "instance"}
    used = targets("prometheus") + [(rule["alert"], rule["expr"]) for rule in rules()]
    assert len(used) > 100
    for where, expression in used:
        selectors = re.findall(r"\b((?:dynamo|process)_\w+|up)\b(?:\{([^}]*)\})?", expression)
        assert selectors, where
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
        for name, matchers in selectors:
            assert name in labels, f"{where}: no {name} on any page"
            wanted = grouped | set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
            assert wanted <= labels[name], f"{where}: {name} has no {wanted - labels[name]}"


def test_every_panel_shows_figures(scene):
    empty = [f"{where}: {query}" for where, query in targets("prometheus") if not scene.shows(query)]
    assert not empty, "\n".join(empty)


def test_every_variable_has_values(scene):
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] != "query":
                continue
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            assert scene.ask(f"label/{label}/values", **{"match[]": selector}), f"{name}: {variable['name']}"


def test_every_rule_can_be_evaluated_and_is_quiet_or_right(scene):
    answer = scene.ask("rules")
    found = {rule["name"]: rule for group in answer["groups"] for rule in group["rules"]}
    assert set(found) == {rule["alert"] for rule in rules()}
    for rule in rules():
        scene.query(rule["expr"])
    # The certificate of the tests ends in two days; nobody else is in trouble at once.
    assert scene.shows(next(rule["expr"] for rule in rules() if rule["alert"] == "DynamoCertificateEnds"))
    assert not scene.query(next(rule["expr"] for rule in rules() if rule["alert"] == "DynamoSpansLost"))


def test_every_trace_panel_finds_traces(scene):
    """By the trace store's TraceQL; the queries keep to what Tempo takes too."""
    queries = targets("tempo")
    assert len(queries) == 5
    for where, query in queries:
        path = "/api/search?" + urllib.parse.urlencode({"q": filled_in(query), "limit": 20})

        def found(path=path):
            status, _, body = scene.tempo.get(path)
            assert status == 200, f"{where}: {body.decode()}"
            return json.loads(body)["traces"]

        eventually(f"{where} shows a trace", found)


def test_rules_and_scrape_configuration_pass_promtool():
    promtool = tool("promtool")
    for arguments in (["check", "rules", "rules/dynamo.yml"], ["check", "config", "prometheus.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=CONFIG / "prometheus", capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and "FAILED" not in done.stdout + done.stderr, done.stdout + done.stderr


def test_rules_fire_when_they_should(tmp_path):
    cases = (ROOT / "Tests/Integration/data/rules-test.yml").read_text()
    for rule in rules():
        assert f"alertname: {rule['alert']}\n" in cases, f"{rule['alert']} is never seen to fire"
    (tmp_path / "cases.yml").write_text(cases.replace("RULES", str(CONFIG / "prometheus/rules/dynamo.yml")))
    done = subprocess.run([tool("promtool"), "test", "rules", tmp_path / "cases.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
