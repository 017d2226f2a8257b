"""The Kubernetes manifests: valid for the API, and the environment they give makes the programs serve."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml
from support.processes import BIN, MODEL, ROOT, chat, free_port

FOLDER = ROOT / "Config/kubernetes"
PLAIN = ["frontend.yaml", "worker.yaml", "discovery-rbac.yaml"]
VERSIONS = ["1.30", "1.37"]


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(name: str, kind: str) -> dict:
    (found,) = [document for document in documents(name) if document["kind"] == kind]
    return found


def validate(document: dict, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(document, version, strict=True)


def settings_of(program: str) -> set[str]:
    dump = subprocess.run([BIN / program, "--dump"], capture_output=True, text=True, timeout=20, check=True).stdout
    return set(re.findall(r"`((?:DYN|OTEL)_\w+)`", dump)) | set(re.findall(r"`((?:DYN|OTEL)_\w+)=", dump))


def frontend_environment() -> dict[str, str]:
    return of_kind("frontend.yaml", "ConfigMap")["data"]


def worker_environment() -> dict[str, str]:
    (container,) = of_kind("worker.yaml", "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def graph_services() -> dict[str, dict]:
    return of_kind("dynamographdeployment.yaml", "DynamoGraphDeployment")["spec"]["services"]


def graph_environment(service: str) -> dict[str, str]:
    spec = of_kind("dynamographdeployment.yaml", "DynamoGraphDeployment")["spec"]
    entries = spec["envs"] + spec["services"][service]["extraPodSpec"]["mainContainer"]["env"]
    return {entry["name"]: entry["value"] for entry in entries}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", PLAIN)
def test_manifest_is_valid(name, version):
    for document in documents(name):
        validate(document, version)


def test_validation_can_fail():
    broken = of_kind("frontend.yaml", "Service")
    broken["spec"]["portz"] = []
    with pytest.raises(Exception, match="portz"):
        validate(broken, VERSIONS[-1])


def test_pods_of_the_graph_deployment_are_valid():
    """The custom resource has no schema here; the pods that the operator makes of it are held against the API's."""
    for service in graph_services().values():
        assert set(service) == {"componentType", "replicas", "extraPodSpec"}
        pod = dict(service["extraPodSpec"])
        pod["containers"] = [{"name": "main", **pod.pop("mainContainer")}]
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "main"}, "spec": pod}, VERSIONS[-1])
    service = of_kind("dynamographdeployment.yaml", "Service")
    validate(service, VERSIONS[-1])
    assert service["spec"]["selector"]["nvidia.com/dynamo-component"] in graph_services()
    graph = of_kind("dynamographdeployment.yaml", "DynamoGraphDeployment")
    assert service["spec"]["selector"]["nvidia.com/dynamo-graph-deployment-name"] == graph["metadata"]["name"]


def test_kustomization_builds():
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    done = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
    assert sorted(built) == sorted(document["kind"] for name in PLAIN[:2] for document in documents(name))


def test_environment_names_are_settings():
    for program, environments in {
        "dynamo-frontend": [frontend_environment(), graph_environment("Frontend")],
        "dynamo-worker": [worker_environment(), graph_environment("Worker")],
    }.items():
        known = settings_of(program)
        assert len(known) > 50
        for environment in environments:
            assert set(environment) <= known, set(environment) - known


def test_pods_are_given_the_time_that_their_drain_takes():
    graph = graph_services()
    for environment, drain, pod in [
        (frontend_environment(), "HTTP", of_kind("frontend.yaml", "Deployment")["spec"]["template"]["spec"]),
        (worker_environment(), "RUNTIME", of_kind("worker.yaml", "StatefulSet")["spec"]["template"]["spec"]),
        (graph_environment("Frontend"), "HTTP", graph["Frontend"]["extraPodSpec"]),
        (graph_environment("Worker"), "RUNTIME", graph["Worker"]["extraPodSpec"]),
    ]:
        grace = int(environment["DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS"])
        seconds = int(environment[f"DYN_{drain}_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"])
        # And five seconds to send the last spans.
        assert pod["terminationGracePeriodSeconds"] > grace + seconds + 5
        # A worker is served from until the frontends have asked for its name again, which they do each 30 s.
        assert grace >= (31 if drain == "RUNTIME" else 5)


def test_pods_have_no_privileges_and_their_probes_reach_a_port():
    for name, kind in (("frontend.yaml", "Deployment"), ("worker.yaml", "StatefulSet")):
        workload = of_kind(name, kind)
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            ports = {port["name"] for port in container["ports"]}
            for probe in ("livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
            assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        labels = workload["spec"]["template"]["metadata"]["labels"]
        for other in documents(name):
            selector = other["spec"].get("selector") if other["kind"] in ("Service", "PodDisruptionBudget") else None
            if selector:
                assert selector.get("matchLabels", selector).items() <= labels.items(), other["kind"]


@pytest.mark.parametrize("form", ["plain", "graph"])
def test_programs_serve_with_the_environment_of_the_manifests(stack, receiver, form):
    """With other ports, and the name of this machine for the headless service's."""
    port, caller_port, metrics_port = free_port(), free_port(), free_port()
    worker, frontend = worker_environment(), frontend_environment()
    worker_arguments, frontend_arguments = [], []
    if form == "plain":
        worker |= {"DYN_WORKER_PORT": str(port)}
        frontend |= {"DYN_METRICS_LISTEN": f"127.0.0.1:{metrics_port}", "DYN_WORKERS": f"dns+http://localhost:{port}"}
    else:
        worker, frontend = graph_environment("Worker"), graph_environment("Frontend")
        main = {name: service["extraPodSpec"]["mainContainer"] for name, service in graph_services().items()}
        worker_arguments = [str(port) if one == "8100" else one for one in main["Worker"]["args"]]
        frontend_arguments = [f"dns+http://localhost:{port}" if "dns+" in one else one for one in main["Frontend"]["args"]]
        metrics_port = caller_port  # the operator's frontends have one port
    ends = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint, "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": "0"}
    started = stack.server("worker", ["dynamo-worker", *worker_arguments], stack.env({**worker, **ends}), port)
    started.wait_for("/ready")
    assert started.status("/live") == 200 and started.status("/metrics") == 200
    environment = stack.env({**frontend, **ends, "DYN_HTTP_PORT": caller_port})
    probed = stack.server("frontend", ["dynamo-frontend", *frontend_arguments], environment, metrics_port)
    probed.wait_for("/ready")
    assert probed.status("/live") == 200 and probed.status("/metrics") == 200
    probed.port = caller_port
    assert probed.post("/v1/chat/completions", chat(model=MODEL), {"x-request-id": f"pod-{form}"})[0] == 200
    trace = receiver.trace(f"pod-{form}", "http-request", "handle_payload")
    assert trace.one("handle_payload").service == "dynamo-worker"
