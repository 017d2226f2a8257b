"""The files people deploy with, checked by the tools that will read them."""

import functools
import json
import re
import shutil
import subprocess

import pytest
import yaml
from support.processes import BIN, ROOT

CONFIG = ROOT / "Config"


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze: Scripts/bootstrap.sh test installs it")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60)


# Each service with its template's instance, and the drop-in that may come with it.
UNITS = {
    "dynamo-frontend.service": ("dynamo-frontend.service", None),
    "dynamo-worker@a.service": ("dynamo-worker@.service", None),
    "dynamo-worker@engine.service": ("dynamo-worker@.service", "dynamo-worker-engine.conf"),
}


@pytest.fixture(params=UNITS)
def unit(request, tmp_path):
    """The unit as installed, but with the binary of this tree, so that verify finds it."""
    file, drop_in = UNITS[request.param]
    program = re.match(r"[a-z-]+", request.param)[0]
    text = (CONFIG / "systemd" / file).read_text()
    assert f"ExecStart=/usr/bin/{program} " in text
    path = tmp_path / request.param
    path.write_text(text.replace(f"/usr/bin/{program}", str(BIN / program)))
    if drop_in:
        folder = tmp_path / f"{request.param}.d"
        folder.mkdir()
        shutil.copy(CONFIG / "systemd" / drop_in, folder / "engine.conf")
    return path


def test_unit_passes_systemd_analyze_verify(unit):
    done = systemd_analyze("verify", "--man=no", str(unit))
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "dynamo-" in line or unit.parent.name in line]
    assert done.returncode == 0 and not complaints, complaints


def test_unit_is_hardened(unit):
    # In tenths: an exposure of 2.0 or more fails.
    done = systemd_analyze("security", "--offline=true", "--no-pager", "--threshold=19", str(unit))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize(
    ("unit_file", "settings_file", "drain"),
    [
        ("dynamo-frontend.service", "dynamo-frontend.env", "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"),
        ("dynamo-worker@.service", "dynamo-worker.env", "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"),
    ],
)
def test_unit_waits_for_the_drain(unit_file, settings_file, drain):
    text = (CONFIG / "systemd" / unit_file).read_text()
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    environment = (CONFIG / "systemd" / settings_file).read_text()
    seconds = {name: int(value) for name, value in re.findall(r"^(\w+_SECS)=(\d+)", environment, re.M)}
    # Beside the flush of the last spans (5 s).
    assert seconds[drain] == 300
    assert int(settings["TimeoutStopSec"]) > seconds[drain] + seconds["DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS"] + 5
    assert settings["Restart"] == "on-failure" and settings["LimitNOFILE"] == "1048576"
    # Frontend and workers meet in one folder as one user; neither takes it along when it stops.
    shared = ("User", "RuntimeDirectory", "RuntimeDirectoryPreserve")
    assert [settings[name] for name in shared] == ["dynamo", "dynamo", "yes"]


@pytest.mark.parametrize("program", ["dynamo-frontend", "dynamo-worker"])
def test_settings_file_of_the_service_is_accepted(stack, program):
    file = CONFIG / f"systemd/{program}.env"
    command = [BIN / program, "doctor", "--config", file]
    done = subprocess.run(command, env=stack.env(), capture_output=True, text=True, timeout=30)
    assert f"{file}:" in done.stdout and not done.stderr and "is no setting" not in done.stdout


COMPOSE = {
    "docker-compose.yml": {
        "tempo": "grafana/tempo:2.8.2",
        "prometheus": "prom/prometheus:v3.4.1",
        "grafana": "grafana/grafana:12.2.0",
    },
    "docker-compose.collector.yml": {
        "collector": "otel/opentelemetry-collector-contrib:0.120.0",
        "tempo": "grafana/tempo:2.8.2",
        "loki": "grafana/loki:3.5.0",
    },
}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_file_parses_and_pins_its_images(name):
    services = yaml.safe_load((CONFIG / "compose" / name).read_text())["services"]
    images = {name: service["image"] for name, service in services.items() if "extends" not in service}
    assert images == COMPOSE[name]
    published = {}
    for service in services.values():
        for port in service.get("ports", []):
            host, outside, inside = port.split(":")
            assert host == "127.0.0.1" and outside == inside and outside not in published, port
            published[outside] = service
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (CONFIG / "compose" / source).exists(), source
    # Whoever takes in spans is where exporters look by default.
    assert {"4317", "4318"} <= set(published)
    assert published["4317"] is services["collector" if "collector" in services else "tempo"]
    if "grafana" in images:
        environment = services["grafana"]["environment"]
        assert (environment["GF_SECURITY_ADMIN_USER"], environment["GF_SECURITY_ADMIN_PASSWORD"]) == ("dynamo", "dynamo")


@functools.cache
def compose_command() -> list[str] | None:
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True, timeout=30).returncode == 0:
            return command
    return None


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_file_passes_composes_own_check(name):
    command = compose_command()
    if command is None:
        pytest.skip("neither 'docker compose' nor 'docker-compose' is here")
    file = str(CONFIG / "compose" / name)
    done = subprocess.run([*command, "-f", file, "config"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"tempo", "prometheus", "grafana"} <= set(services)
    # What the second file takes over from the first has arrived, once.
    mounts = [str(volume) for volume in services["grafana"]["volumes"]]
    assert sum("/etc/grafana/provisioning/datasources" in mount for mount in mounts) == 1, mounts


def test_collector_passes_spans_and_log_records_on():
    collector = yaml.safe_load((CONFIG / "collector/collector.yaml").read_text())
    for name, pipeline in collector["service"]["pipelines"].items():
        for part in ("receivers", "processors", "exporters"):
            assert pipeline[part] and set(pipeline[part]) <= set(collector[part]), f"{name}: {part}"
    services = yaml.safe_load((CONFIG / "compose/docker-compose.collector.yml").read_text())["services"]
    for exporter in collector["exporters"].values():
        assert exporter["endpoint"].removeprefix("http://").split(":")[0] in services
    assert set(collector["service"]["pipelines"]) == {"traces", "logs"}


def test_tempo_configuration_receives_otlp_and_keeps_it_locally():
    tempo = yaml.safe_load((CONFIG / "tempo/tempo.yaml").read_text())
    assert tempo["server"]["http_listen_port"] == 3200
    protocols = tempo["distributor"]["receivers"]["otlp"]["protocols"]
    assert protocols["grpc"]["endpoint"] == "0.0.0.0:4317"
    assert protocols["http"]["endpoint"] == "0.0.0.0:4318"
    assert tempo["storage"]["trace"]["backend"] == "local"
    assert tempo["usage_report"]["reporting_enabled"] is False
    # Sections that Tempo 2.8 knows; an unknown one makes it refuse to start.
    assert set(tempo) <= {
        "stream_over_http_enabled", "server", "distributor", "ingester", "compactor", "storage", "query_frontend",
        "usage_report", "overrides", "metrics_generator", "querier", "memberlist", "multitenancy_enabled",
    }  # fmt: skip


def test_grafana_is_given_tempo_as_a_data_source():
    source = yaml.safe_load((CONFIG / "grafana/provisioning/datasources/tempo.yaml").read_text())
    assert source["apiVersion"] == 1
    (tempo,) = source["datasources"]
    assert (tempo["type"], tempo["uid"], tempo["url"]) == ("tempo", "tempo", "http://tempo:3200")


def test_examples_parse():
    for path in sorted((CONFIG / "examples").iterdir()):
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".sh":
            assert subprocess.run(["bash", "-n", path]).returncode == 0
        elif path.suffix == ".conf":
            for line in path.read_text().splitlines():
                assert not line.strip() or line.startswith("#") or re.match(r"[A-Z_]+=", line), line


def test_documents_name_only_files_that_exist():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for name in re.findall(r"`((?:Scripts|Config|docs|Tests)/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_settings_tables_are_what_the_executables_say():
    page = (ROOT / "docs/configuration.md").read_text()
    for name in ("dynamo-frontend", "dynamo-worker"):
        dump = subprocess.run([BIN / name, "--dump"], capture_output=True, text=True, timeout=20, check=True).stdout
        for row in dump.splitlines():
            if row.startswith("|"):
                assert row in page, f"run Scripts/update_docs.sh: {row}"
