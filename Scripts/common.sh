# Helpers for the scripts beside this file. Sourced, never run.

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root: directly, or by sudo for everybody else.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    die "this step needs root and there is no sudo: $*"
  fi
}

# Where the executables are: DYNAMO_BIN, else the release build of this tree, else the search path.
find_binaries() {
  if [ -n "${DYNAMO_BIN:-}" ]; then
    PATH="$DYNAMO_BIN:$PATH"
  elif [ -x "$ROOT/.build/release/dynamo-frontend" ]; then
    PATH="$ROOT/.build/release:$PATH"
  fi
  export PATH
  command -v dynamo-frontend >/dev/null 2>&1 \
    || die "no dynamo-frontend found; build it first: swift build -c release --static-swift-stdlib"
}
