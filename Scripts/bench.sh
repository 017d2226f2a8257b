#!/usr/bin/env bash
# Compares this frontend with nginx and HAProxy, and with --routers also with the routers that pip installs, under the
# same load on this machine. Further arguments go to `dynamo-bench compare` (--rounds 5, --presets abcd, --peer …).
# Everything runs on free ports of 127.0.0.1 with configurations in a temporary folder; no service is started.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PEERS="$ROOT/.tools/peers"
ROUTERS="$ROOT/.venv/routers"
with_routers=no
if [ "${1:-}" = --routers ]; then
  with_routers=yes
  shift
fi

# Debian's packages, unpacked and not installed: an installed nginx would start itself, now and at each boot.
fetch_debian() {
  command -v dpkg-deb >/dev/null 2>&1 || die "neither $1 nor dpkg here; install $1 and run this again"
  local work
  work="$(mktemp -d)"
  chmod 755 "$work"
  say "fetching $*"
  if ! (cd "$work" && apt-get download -q "$@") >/dev/null 2>&1; then
    as_root apt-get update -q >/dev/null 2>&1 || warn "apt-get update failed"
    (cd "$work" && apt-get download -q "$@") >/dev/null || die "cannot download $*; install $1 and run this again"
  fi
  local package
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$PEERS"; done
  rm -rf "$work"
}

use_fetched() {
  PATH="$PATH:/usr/sbin:$PEERS/usr/sbin"
  export PATH
  local library
  for library in "$PEERS"/usr/lib/*-linux-gnu; do
    [ -d "$library" ] && export LD_LIBRARY_PATH="$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  done
  return 0
}

proxies() {
  mkdir -p "$PEERS"
  use_fetched
  command -v nginx >/dev/null 2>&1 || fetch_debian nginx
  command -v haproxy >/dev/null 2>&1 || fetch_debian haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
  use_fetched
  local version
  nginx -v 2>&1 || die "nginx does not start"
  version="$(haproxy -v)" || die "haproxy does not start"
  say "${version%%$'\n'*}"
}

routers() {
  local wanted="sglang-router==0.3.2 vllm-router==0.1.17"
  [ "$(cat "$ROUTERS/dynamo-stamp" 2>/dev/null || true)" = "$wanted" ] && return 0
  say "installing $wanted"
  local python=python3
  [ -x /usr/bin/python3 ] && python=/usr/bin/python3
  rm -rf "$ROUTERS"
  "$python" -m venv "$ROUTERS" || die "cannot make a Python venv (python3-venv missing?)"
  # Unquoted on purpose: two requirements.
  # shellcheck disable=SC2086
  "$ROUTERS/bin/pip" install -q --disable-pip-version-check $wanted || die "pip could not install $wanted"
  printf '%s\n' "$wanted" >"$ROUTERS/dynamo-stamp"
}

Scripts/bootstrap.sh
proxies
peers=(--peer frontend --peer frontend:kv:untraced --peer nginx --peer haproxy)
if [ "$with_routers" = yes ]; then
  routers
  peers+=(--peer sglang --peer sglang:cache_aware:traced --peer vllm:round_robin --peer vllm)
fi
for argument in "$@"; do
  case "$argument" in --peer | --peer=*) peers=() ;; esac
done

if [ -z "${DYNAMO_BIN:-}" ]; then
  say "building (the first time takes a few minutes)"
  swift build -c release --static-swift-stdlib --product dynamo-frontend
  swift build -c release --static-swift-stdlib --product dynamo-bench
fi
find_binaries
say "$(nproc) processors, $(uname -r), load average $(cut -d' ' -f1-3 /proc/loadavg)"
exec dynamo-bench compare --venv "$ROUTERS" "${peers[@]}" "$@"
