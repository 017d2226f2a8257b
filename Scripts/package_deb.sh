#!/usr/bin/env bash
# Makes a Debian package of the release build: Scripts/package_deb.sh [--output DIR] [--uncompressed] [--allow-unpackaged].
# Takes the executables from DYNAMO_BIN, else .build/release; writes dynamo-frontend_VERSION_ARCH.deb to DIR (default:
# .build) and prints its path. --allow-unpackaged lets executables need libraries that are in no package, as those of a
# debug build do: such a package works on this machine alone.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

output="$ROOT/.build"
allow_unpackaged=0
compression=xz
while [ $# -gt 0 ]; do
  case "$1" in
    --output) output="$(cd "${2:?--output DIR}" && pwd)" && shift ;;
    --uncompressed) compression=none ;;
    --allow-unpackaged) allow_unpackaged=1 ;;
    *) die "usage: Scripts/package_deb.sh [--output DIR] [--uncompressed] [--allow-unpackaged]" ;;
  esac
  shift
done
for tool in dpkg-deb dpkg-shlibdeps strip gzip; do
  command -v "$tool" >/dev/null 2>&1 || die "no $tool: apt-get install dpkg-dev binutils"
done
find_binaries

programs=(dynamo-frontend dynamo-worker dynamo-tempo)
version="$(dynamo-frontend --version | grep -oE '[0-9]+(\.[0-9]+)+[^ ]*' | head -n 1)"
[ -n "$version" ] || die "dynamo-frontend tells no version"
architecture="$(dpkg --print-architecture)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
tree="$work/tree"
put() { install -D -m "$1" "$2" "$tree/$3"; }

for program in "${programs[@]}"; do
  put 755 "$(command -v "$program")" "usr/bin/$program"
  strip --strip-unneeded "$tree/usr/bin/$program"
done
for unit in dynamo-frontend.service dynamo-frontend.socket dynamo-worker@.service; do
  put 644 "Config/systemd/$unit" "usr/lib/systemd/system/$unit"
  # Their first lines say how to install them by hand.
  sed -i '1,/^$/c # See /usr/share/doc/dynamo-frontend; change it by: systemctl edit NAME\n' "$tree/usr/lib/systemd/system/$unit"
done
put 644 Config/systemd/dynamo-frontend.env etc/dynamo/dynamo-frontend.env
put 644 Config/systemd/dynamo-worker.env usr/share/doc/dynamo-frontend/examples/worker.env
put 644 Config/systemd/dynamo-worker-engine.conf usr/share/doc/dynamo-frontend/examples/dynamo-worker-engine.conf
for file in Config/grafana/dashboards/*.json; do put 644 "$file" "usr/share/dynamo-frontend/dashboards/${file##*/}"; done
put 644 Config/prometheus/rules/dynamo.yml usr/share/dynamo-frontend/prometheus/dynamo.yml
install -d "$tree/usr/lib/sysusers.d"
cat >"$tree/usr/lib/sysusers.d/dynamo-frontend.conf" <<'TEXT'
u dynamo - "Dynamo frontend and workers" /var/lib/dynamo -
TEXT

doc="$tree/usr/share/doc/dynamo-frontend"
put 644 README.md usr/share/doc/dynamo-frontend/README.md
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
cat >"$doc/copyright" <<'TEXT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: dynamo-frontend

Files: *
Copyright: the authors of dynamo-frontend
License: Apache-2.0

Files: usr/bin/*
Copyright: the authors of dynamo-frontend
           Apple Inc. and the Swift project authors
License: Apache-2.0
Comment: The executables contain the Swift runtime, swift-log and swift-argument-parser (Apache-2.0 with the Runtime
 Library Exception).

License: Apache-2.0
 On Debian systems the full text of the Apache License, Version 2.0 is in /usr/share/common-licenses/Apache-2.0.
TEXT
chmod 644 "$doc"/* 2>/dev/null || true
chmod 755 "$doc/examples"

# What the executables link to, as packages with the least version that has the symbols used.
mkdir -p "$work/debian"
printf 'Source: dynamo-frontend\n\nPackage: dynamo-frontend\nArchitecture: any\n' >"$work/debian/control"
unpackaged="$(ldd "${programs[@]/#/$tree/usr/bin/}" | sed -nE 's|.*=> ([^ ]+) .*|\1|p' | grep -vE '^(/usr)?/lib(64)?/' | sort -u || true)"
if [ -n "$unpackaged" ] && [ "$allow_unpackaged" -eq 0 ]; then
  say "$unpackaged" >&2
  die "these libraries are in no package; build with: swift build -c release --static-swift-stdlib"
fi
depends="$(cd "$work" && dpkg-shlibdeps -O "${programs[@]/#/-e$tree/usr/bin/}" 2>"$work/shlibdeps.log" | sed -n 's/^shlibs:Depends=//p')" \
  || { cat "$work/shlibdeps.log" >&2; die "dpkg-shlibdeps failed"; }
[ -n "$depends" ] || { cat "$work/shlibdeps.log" >&2; die "dpkg-shlibdeps found no dependencies"; }

install -d "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<TEXT
Package: dynamo-frontend
Version: $version
Architecture: $architecture
Maintainer: dynamo-frontend <dynamo-frontend@localhost>
Section: net
Priority: optional
Depends: $depends
Recommends: ca-certificates, systemd
Suggests: libzmq5, prometheus
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Description: OpenAI-compatible router for LLM workers
 dynamo-frontend routes requests of OpenAI's API to the worker whose cache already holds the prompt, and
 traces each one by OTLP. dynamo-worker registers an engine with it, or simulates one; dynamo-tempo keeps
 traces and answers Tempo's query API.
 .
 No service is started by the installation: /etc/dynamo/dynamo-frontend.env first, then systemctl enable
 --now dynamo-frontend. libzmq5 lets it follow engines' cache events.
TEXT
printf '/etc/dynamo/dynamo-frontend.env\n' >"$tree/DEBIAN/conffiles"
cat >"$tree/DEBIAN/postinst" <<'TEXT'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} dynamo-frontend.conf
  fi
  if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    # Services that run go on with the old program until somebody restarts them: that drains their streams.
    systemctl daemon-reload
  fi
fi
TEXT
cat >"$tree/DEBIAN/prerm" <<'TEXT'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  # The frontend first: it drains through its workers.
  systemctl disable --now dynamo-frontend.socket dynamo-frontend.service || true
  systemctl stop 'dynamo-worker@*.service' || true
fi
TEXT
cat >"$tree/DEBIAN/postrm" <<'TEXT'
#!/bin/sh
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  # Spans that were never delivered. The user stays, as Debian has it.
  # With DynamicUser= the folders are links into private ones.
  rm -rf "$DPKG_ROOT"/var/lib/dynamo "$DPKG_ROOT"/var/lib/private/dynamo
fi
TEXT
chmod 755 "$tree"/DEBIAN/{postinst,prerm,postrm}
find "$tree" -type d -exec chmod 755 {} +
(cd "$tree" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

file="$output/dynamo-frontend_${version}_$architecture.deb"
dpkg-deb --root-owner-group "-Z$compression" -b "$tree" "$file" >/dev/null
say "$file"
