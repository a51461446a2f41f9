"""What is in deploy/ is well formed, runs with little privilege, and passes arguments that the server knows."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_server import serve as server_module
from stream_server.cli import main
from stream_server.cluster.settings import ClusterSettings, check_for_cluster
from stream_server.commands import serve as serve_command
from stream_server.config import ServerConfig
from tests.stream_server.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")
SECRETS = {"NERF_LIPSYNC_TOKEN": "0123456789abcdef", "NERF_LIPSYNC_TURN_SECRET": "fedcba9876543210"}
VALUES = {"PUBLIC_HOST": "avatars.example.org", "PUBLIC_IP": "198.51.100.7", "NODE_IP": "198.51.100.8", "OPTIONS": ""}


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in pairs]


def of(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(name) if word == instruction]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())
    return found


def filled(text: str) -> str:
    """With the values that compose, Kubernetes or systemd would put in."""
    return re.sub(r"\$[{(]?(\w+)(?::\?[^}]*)?[})]?", lambda match: (VALUES | SECRETS)[match[1]], text)


def settings_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> ServerConfig:
    """What `nerf-lipsync` with these arguments would serve with."""
    taken: list[ServerConfig] = []

    def take(config: ServerConfig) -> int:
        taken.append(config)
        return 0

    monkeypatch.setattr(server_module, "run_server", take)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert main([filled(argument) for argument in arguments]) == 0
    return taken[0]


def entry(name: str = "Dockerfile") -> list[str]:
    (text,) = of(name, "ENTRYPOINT")
    words: list[str] = json.loads(text)
    assert words[0] == "nerf-lipsync"
    return words[1:]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_pinned_small_and_without_root(name: str) -> None:
    arguments = dict(text.split("=", 1) for text in of(name, "ARG"))
    for image in of(name, "FROM"):
        resolved = image.split(" AS ")[0].replace("${PYTHON_IMAGE}", arguments["PYTHON_IMAGE"])
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", resolved)
    assert len(of(name, "FROM")) == 2
    last = [word for word, _ in instructions(name)][::-1]
    assert "USER" in last[: last.index("FROM")]
    (user,) = of(name, "USER")
    assert int(user.split(":")[0]) >= 10_000
    assert of(name, "ADD") == []
    assert [rest for rest in of(name, "RUN") if "sudo" in rest or "curl" in rest] == []
    assert len(of(name, "HEALTHCHECK")) == 1
    assert of(name, "STOPSIGNAL") == ["SIGTERM"]
    secret = re.compile(r"(TOKEN|SECRET|PASSWORD|KEY)\w*=", re.IGNORECASE)
    assert [rest for rest in of(name, "ENV") + of(name, "ARG") if secret.search(rest)] == []


@pytest.mark.parametrize("name", DOCKERFILES)
def test_packages_are_pinned_and_leave_no_lists(name: str) -> None:
    for run in of(name, "RUN"):
        if "apt-get" in run:
            assert "apt-get update" in run
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
            packages = run.split("--no-install-recommends")[1].split("&&")[0].split()
            assert packages
            assert [package for package in packages if "=" not in package] == []
        if "pip install" in run:
            assert "--constraint constraints.txt" in run or "^torch==" in run
    assert any("PIP_NO_CACHE_DIR=1" in rest for rest in of(name, "ENV"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_is_there_and_not_ignored(name: str) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in of(name, "COPY"):
        if rest.startswith("--from="):
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in kept, source
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    assert not kept & {".git", ".venv", "tests", "runs"}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_serves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (default,) = of(name, "CMD")
    config = settings_of([*entry(name), *json.loads(default)], monkeypatch)
    assert (config.host, config.port, config.udp_ports) == ("0.0.0.0", 8080, (50000, 50063))
    assert of(name, "EXPOSE") == ["8080/tcp 50000-50063/udp"]


def test_compose_serves_with_names_secrets_and_ports_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    config = settings_of([*entry(), *services["server"]["command"]], monkeypatch)
    assert config.turn_secret == SECRETS["NERF_LIPSYNC_TURN_SECRET"]
    assert config.turn_urls == ("turn:avatars.example.org:3478?transport=udp",)
    assert config.advertise_ip == VALUES["PUBLIC_IP"]
    assert services["server"]["ports"] == ["50000-50063:50000-50063/udp"]
    addresses = {name: service["networks"]["front"]["ipv4_address"] for name, service in list(services.items())[:2]}
    assert services["server"]["environment"]["FORWARDED_ALLOW_IPS"] == addresses["tls"]
    assert config.allowed_hosts == (filled(services["server"]["environment"]["NERF_LIPSYNC_HEALTH_HOST"]),)
    assert "--static-auth-secret=${NERF_LIPSYNC_TURN_SECRET}" in services["turn"]["command"]
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    offered = {line.split("=")[0] for line in (DEPLOY / "compose.env.example").read_text().splitlines() if "=" in line}
    assert asked == offered - {"#"} - {name for name in offered if name.startswith("#")}


@pytest.mark.parametrize("name", ["server", "tls", "turn"])
def test_every_service_has_little_privilege(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    if "image" in service:
        assert re.search(r":\d+\.\d+\.\d+", service["image"])


def denied() -> list[tuple[Any, Any]]:
    lines = (DEPLOY / "coturn" / "turnserver.conf").read_text().splitlines()
    ranges = [line.split("=")[1].split("-") for line in lines if line.startswith("denied-peer-ip=")]
    return [(ipaddress.ip_address(first), ipaddress.ip_address(last)) for first, last in ranges]


def is_denied(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return any(first.version == address.version and first <= address <= last for first, last in denied())


PRIVATE = (
    "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.168.1.1 198.18.0.1 224.0.0.1 "
    "255.255.255.255 ::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: fc00::1 fd12::1 fe80::1 ff02::1"
)


@pytest.mark.parametrize("address", PRIVATE.split())
def test_the_relay_reaches_no_private_peer(address: str) -> None:
    assert is_denied(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "100.63.255.255", "172.32.0.1", "192.167.1.1", "2a00::1", "2606:4700::1"]
)
def test_the_relay_reaches_public_peers(address: str) -> None:
    assert not is_denied(address)


def test_the_relay_needs_our_credentials() -> None:
    lines = (DEPLOY / "coturn" / "turnserver.conf").read_text().splitlines()
    assert {"use-auth-secret", "no-multicast-peers", "no-cli"} <= set(lines)
    assert not [line for line in lines if line.startswith(("no-auth", "static-auth-secret", "user="))]


@pytest.mark.parametrize("name", ["deployment.yaml", "service.yaml", "networkpolicy.yaml"])
def test_manifests_follow_the_schemas(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev: install it")
    found = manifest(name)
    validate.validate(found, "1.30", strict=True)
    assert name in manifest("kustomization.yaml")["resources"]


def test_a_broken_manifest_would_be_seen() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev: install it")
    broken = manifest("deployment.yaml")
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, "1.30", strict=True)


def test_the_pod_serves_and_its_parts_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = settings_of([*entry(), *container["args"]], monkeypatch)
    assert config.advertise_ip == VALUES["NODE_IP"]
    udp = [port for port in container["ports"] if port["protocol"] == "UDP"]
    assert config.udp_ports == (udp[0]["containerPort"], udp[-1]["containerPort"])
    assert [port["hostPort"] for port in udp] == list(range(udp[0]["hostPort"], udp[-1]["hostPort"] + 1))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (header,) = container[probe]["httpGet"]["httpHeaders"]
        assert (header["name"], header["value"]) == ("Host", config.allowed_hosts[0])
    (ports,) = [rule["ports"] for rule in manifest("networkpolicy.yaml")["spec"]["ingress"]]
    assert (ports[1]["port"], ports[1]["endPort"]) == config.udp_ports
    version = re.search(r'^version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert container["image"] == f"nerf-lipsync:{version[1]}"


def test_the_pod_has_little_privilege() -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert all("emptyDir" in volume for volume in pod["volumes"])


def ray_cluster() -> dict[str, Any]:
    return manifest("raycluster.yaml")["spec"]  # type: ignore[no-any-return]


def test_the_ray_clusters_pods_follow_the_schemas() -> None:
    """The operator's own schema is not at hand; what it makes of this are pods."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev: install it")
    cluster = ray_cluster()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        template = group["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"} | template["metadata"]}
        validate.validate(pod | {"spec": template["spec"]}, "1.30", strict=True)
    pinned = re.search(r"^ray==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]


def test_the_ray_cluster_serves_and_has_little_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[ServerConfig, ClusterSettings]] = []
    monkeypatch.setattr(serve_command, "_on_a_cluster", lambda config, settings: taken.append((config, settings)) or 0)
    monkeypatch.setenv("NERF_LIPSYNC_TOKEN", SECRETS["NERF_LIPSYNC_TOKEN"])
    cluster = ray_cluster()
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    _ray, command = head["template"]["spec"]["containers"]
    assert main([*command["command"][1:], *command["args"]]) == 0
    ((config, settings),) = taken
    check_for_cluster(config)
    assert (settings.min_replicas, settings.max_replicas) == (workers["minReplicas"], workers["maxReplicas"])
    for group in (head, workers):
        spec = group["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        ray = spec["containers"][0]
        assert ray["ports"][0]["containerPort"] == config.port
        (header,) = ray["readinessProbe"]["httpGet"]["httpHeaders"]
        assert header["value"] in config.allowed_hosts
        assert {entry["name"] for entry in ray["env"]} == {"RAY_worker_niceness", "NERF_LIPSYNC_ADVERTISE_IP"}


def unit() -> dict[str, str]:
    lines = (DEPLOY / "systemd" / "nerf-lipsync.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_unit_serves_and_is_hardened(monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(filled(unit()["ExecStart"]))
    assert Path(program).name == "nerf-lipsync"
    config = settings_of(arguments, monkeypatch)
    assert (config.host, config.metrics_port, config.log_format) == ("127.0.0.1", 9464, "json")
    wanted = {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes"}
    assert {name: unit()[name] for name in wanted} == wanted
    assert unit()["CapabilityBoundingSet"] == "CAP_SYS_NICE"
    assert unit()["RestartPreventExitStatus"] == str(server_module.EXIT_CONFIG)


def health(url: str) -> int:
    command = [sys.executable, DEPLOY / "health.py"]
    environment = os.environ | {"NERF_LIPSYNC_HEALTH_URL": url, "NERF_LIPSYNC_HEALTH_HOST": "localhost"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode


def test_the_health_check_tells_a_server_that_serves() -> None:
    with ServerProcess("--size", "128") as server:
        assert health(server.url + "/readyz") == 0
        assert health(server.url + "/nothing") == 1
        url = server.url
    assert health(url + "/readyz") == 1
