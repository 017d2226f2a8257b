"""The Debian package and the container image: made or linted by their own tools, tried without installing anything."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import BIN, MODEL, ROOT, chat, free_port

DOCKERFILE = ROOT / "Config/docker/Dockerfile"
PROGRAMS = ("dynamo-frontend", "dynamo-worker", "dynamo-tempo")


def run(*command, **more) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **more)


@functools.cache
def linked_packages() -> frozenset[str]:
    """Debian packages of the libraries that the programs link to, without those of a Swift toolchain."""
    text = run("ldd", *(BIN / program for program in PROGRAMS)).stdout
    libraries = {path.removeprefix("/usr") for path in re.findall(r"=> ((?:/usr)?/lib/\S+)", text)}
    assert libraries
    # Some packages name their files with /usr and some without; status 1 says that one of the two is nobody's.
    owners = run("dpkg-query", "-S", *libraries, *("/usr" + path for path in libraries)).stdout
    return frozenset(line.split(":")[0] for line in owners.splitlines()) - {"libc6"}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    for tool in ("dpkg-deb", "dpkg-shlibdeps", "strip"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: apt-get install dpkg-dev binutils")
    folder = tmp_path_factory.mktemp("package")
    # A build for debugging links to the toolchain's libraries, which no package has.
    command = [ROOT / "Scripts/package_deb.sh", "--output", folder, "--uncompressed"]
    environment = {**os.environ, "DYNAMO_BIN": str(BIN)}
    done = run(*command, env=environment)
    if done.returncode != 0 and "libswiftCore.so" in done.stderr:
        done = run(*command, "--allow-unpackaged", env=environment)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


class Root:
    """A root folder that dpkg installs into, with the package's scripts run from outside."""

    def __init__(self, path: Path):
        self.path = path
        for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates"):
            (path / folder).mkdir(parents=True)
        (path / "var/lib/dpkg/status").touch()

    def dpkg(self, *arguments) -> None:
        flags = ["--force-script-chrootless", "--force-not-root", "--force-depends", "--force-confold", "--log=/dev/null"]
        done = run("dpkg", f"--root={self.path}", *flags, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_package_depends_on_what_its_programs_link_to(package):
    depends = run("dpkg-deb", "-f", package, "Depends").stdout
    named = {entry.split()[0] for entry in depends.split(",")}
    # With the toolchain's libraries beside it a debug build leaves the C++ runtime to them.
    assert linked_packages() - {"libgcc-s1", "libstdc++6"} <= named
    assert all("(>= " in entry for entry in depends.split(",")), depends
    assert run("dpkg-deb", "-f", package, "Version").stdout.strip() in run(BIN / "dynamo-frontend", "--version").stdout
    assert "root/root" in run("dpkg-deb", "-c", package).stdout


def test_package_installs_keeps_settings_and_goes(package, tmp_path):
    if shutil.which("systemd-sysusers") is None or os.geteuid() != 0:
        pytest.skip("needs root and systemd-sysusers")
    root = Root(tmp_path / "root")
    root.dpkg("-i", package)
    assert re.search(r"^dynamo:x:\d+:\d+:.*:/var/lib/dynamo:/usr/sbin/nologin$", (root.path / "etc/passwd").read_text(), re.M)
    for program in PROGRAMS:
        assert run(root.path / "usr/bin" / program, "--version").returncode == 0
    units = root.path / "usr/lib/systemd/system"
    assert {path.name for path in units.iterdir()} == {"dynamo-frontend.service", "dynamo-frontend.socket", "dynamo-worker@.service"}
    for path in units.glob("*.service"):
        program = re.search(r"^ExecStart=(\S+) --config (\S+)$", path.read_text(), re.M)
        assert (root.path / program[1].lstrip("/")).exists()
        assert "install -m" not in path.read_text() and "\n[Service]\n" in path.read_text()
    settings = root.path / "etc/dynamo/dynamo-frontend.env"
    settings.write_text("DYN_HTTP_PORT=8001\n")
    root.dpkg("-i", package)
    assert settings.read_text() == "DYN_HTTP_PORT=8001\n", "a new version keeps what was edited"
    (root.path / "var/lib/dynamo/spool").mkdir(parents=True)
    root.dpkg("-r", "dynamo-frontend")
    assert not (root.path / "usr/bin/dynamo-frontend").exists() and settings.exists()
    root.dpkg("-P", "dynamo-frontend")
    assert not settings.exists() and not (root.path / "var/lib/dynamo").exists()


def test_dockerfile_passes_hadolint():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("no hadolint: Scripts/bootstrap.sh test installs it")
    done = run(hadolint, DOCKERFILE)
    assert done.returncode == 0, done.stdout


def test_image_has_the_libraries_of_its_programs():
    run_stage = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert linked_packages() <= set(re.findall(r"[\w.+-]+", run_stage))
    assert re.search(r"^USER \d+:\d+$", run_stage, re.M)
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M):
        assert re.search(r":\d+\.\d+", image), f"{image} is not pinned"


def test_image_is_built_from_what_the_build_needs():
    """What .dockerignore lets through is what Package.swift and the COPY lines name."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"Package.swift", "Sources", "Tests", "Config/release.profdata", "LICENSE"} <= let_through
    for name in let_through - {"Package.resolved"}:
        assert (ROOT / name).exists(), name


def test_image_serves_with_nothing_to_write_to(stack):
    """As in a container with a read-only root: no home, no temporary folder, nobody's user's environment."""
    environment = dict(re.findall(r"(DYN_\w+)=(\w+)", DOCKERFILE.read_text()))
    port = free_port()
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": "/nowhere", "HOME": "/nowhere", **environment, "DYN_HTTP_PORT": str(port)}
    server = stack.server("image", ["dynamo-frontend", "--simulate=2", f"--model-name={MODEL}"], env, port)
    server.wait_for("/ready")
    assert server.post("/v1/chat/completions", chat())[0] == 200
