#!/usr/bin/env bash
# Fuzzes the parsers with libFuzzer and AddressSanitizer: Scripts/fuzz.sh [SECONDS] [TARGET...], 10 s each unless told,
# as many at a time as there are processors. A target is a file Tests/Fuzz/FuzzTARGET.swift; its seeds are in
# Tests/Fuzz/corpus/TARGET, where found failures belong as well. What a run learns is kept in .build/fuzz/corpus, and an
# input that fails in .build/fuzz/failures.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds="${1:-10}"
case "$seconds" in
  '' | *[!0-9]*) die "usage: Scripts/fuzz.sh [SECONDS] [TARGET...]" ;;
esac
[ $# -gt 0 ] && shift

out="$ROOT/.build/fuzz"
mkdir -p "$out/modules" "$out/failures"

flags=(
  -O -parse-as-library -swift-version 6 -package-name dynamo-frontend -sanitize=fuzzer,address
  -enable-upcoming-feature ExistentialAny -enable-upcoming-feature InternalImportsByDefault
  -enable-upcoming-feature MemberImportVisibility -I "$out/modules" -I "$out/modules/CBytes" -I "$out/modules/CSystem" -I Sources/CNghttp2 -use-ld=lld
)

# newer TARGET FILE...: true when a file is newer than the target, or the target is absent.
newer() {
  local target="$1" file
  shift
  [ -e "$target" ] || return 0
  for file in "$@"; do [ "$file" -nt "$target" ] && return 0; done
  return 1
}

# module NAME DEPENDENCIES FILE...: compiles an instrumented module into a static library, once.
stale=0
module() {
  local name="$1"
  shift
  local library="$out/modules/lib$name.a"
  # Modules come in order of dependency: one that was built anew makes those after it stale.
  if [ "$stale" -eq 0 ] && ! newer "$library" "$0" Sources/CBytes/include/*.h "$@"; then return 0; fi
  stale=1
  swiftc "${flags[@]}" -wmo -num-threads "$(nproc)" -static -emit-library -emit-module -module-name "$name" \
    -emit-module-path "$out/modules/$name.swiftmodule" -o "$library" "$@"
}

mkdir -p "$out/modules/CBytes"
printf 'module CBytes { header "%s" export * }\n' "$ROOT/Sources/CBytes/include/CBytes.h" \
  >"$out/modules/CBytes/module.modulemap.new"
cmp -s "$out/modules/CBytes/module.modulemap.new" "$out/modules/CBytes/module.modulemap" \
  || mv "$out/modules/CBytes/module.modulemap.new" "$out/modules/CBytes/module.modulemap"

# EventLoop reaches the kernel through CSystem, of which a target here calls nothing.
mkdir -p "$out/modules/CSystem"
printf 'module CSystem { header "%s" export * }\n' "$ROOT/Sources/CSystem/include/CSystem.h" \
  >"$out/modules/CSystem/module.modulemap"
clang -O -I Sources/CSystem/include -c Sources/CSystem/csystem.c -o "$out/modules/csystem.o"

say "building instrumented modules"
module Base Sources/Base/*.swift
module JSON Sources/JSON/*.swift
module Protobuf Sources/Protobuf/*.swift
module KVEvents Sources/KVEvents/*.swift
module Routing Sources/Routing/*.swift
# Without gzip, which is zlib's. HTTP/2's frames are nghttp2's to parse, which is not instrumented; what we make of them is.
http_sources=()
for file in Sources/HTTP/*.swift; do
  case "$file" in */Gzip*) ;; *) http_sources+=("$file") ;; esac
done
module HTTP "${http_sources[@]}"
# Addresses, and of connections what is no more than a parser.
module EventLoop Sources/EventLoop/{Sockets,SystemCalls}.swift
module Transport Sources/Transport/ProxyHeader.swift
module OpenAI Sources/OpenAI/*.swift
module Anthropic Sources/Anthropic/*.swift
module Telemetry Sources/Telemetry/{Trace*,B3,Baggage,Propagators,SamplingThreshold,Sampler,EnvironmentNames}.swift
module TraceStore Sources/TraceStore/{Store,Query,Answers}/*.swift
tokenizer_sources=()
while IFS= read -r file; do tokenizer_sources+=("$file"); done < <(find Sources/Tokenizer -name '*.swift' | sort)
module Tokenizer "${tokenizer_sources[@]}"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in Tests/Fuzz/Fuzz*.swift; do
    name="$(basename "$file" .swift)"
    [ "$name" = FuzzSupport ] || targets+=("${name#Fuzz}")
  done
fi

# fuzz TARGET: builds its program where that is stale and runs it; fails when an input did.
fuzz() {
  local target="$1"
  local source="Tests/Fuzz/Fuzz$target.swift" program="$out/fuzz-$target" log="$out/$target.log"
  if [ "$stale" -eq 1 ] || newer "$program" "$0" "$source" Tests/Fuzz/FuzzSupport.swift; then
    # Only what the target imports is linked, each library with those it rests on.
    local libraries=() name
    for name in Transport EventLoop Anthropic OpenAI TraceStore Telemetry HTTP Tokenizer Routing KVEvents Protobuf JSON; do
      grep -q "^import $name\$" "$source" && libraries+=("-l$name")
    done
    grep -q '^import EventLoop$' "$source" && libraries+=("$out/modules/csystem.o")
    swiftc "${flags[@]}" -wmo "$source" Tests/Fuzz/FuzzSupport.swift -module-name Fuzz -L "$out/modules" \
      "${libraries[@]}" -lnghttp2 -lJSON -lBase -lswiftSynchronization -o "$program"
  fi
  local corpus="$out/corpus/$target" seeds="Tests/Fuzz/corpus/$target"
  mkdir -p "$corpus" "$seeds"
  local options=(
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0
    -artifact_prefix="$out/failures/$target-"
  )
  [ -f "Tests/Fuzz/dictionaries/$target" ] && options+=("-dict=Tests/Fuzz/dictionaries/$target")
  # The backtracer of the Swift runtime would hang at the failure; AddressSanitizer prints its own trace.
  if ! SWIFT_BACKTRACE=enable=no "$program" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1; then
    tail -n 60 "$log"
    return 1
  fi
  say "$(printf '%-14s %10s inputs, %s a second' "$target" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")")"
}

for target in "${targets[@]}"; do
  [ -f "Tests/Fuzz/Fuzz$target.swift" ] || die "no fuzz target $target"
done

# As many targets at a time as there are processors.
verdicts="$out/verdicts"
rm -rf "$verdicts" && mkdir -p "$verdicts"
slots="$(nproc)"
for target in "${targets[@]}"; do
  [ "$(jobs -rp | wc -l)" -ge "$slots" ] && { wait -n || true; }
  (fuzz "$target" && touch "$verdicts/$target") &
done
wait

failed=()
for target in "${targets[@]}"; do
  [ -e "$verdicts/$target" ] || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  die "failing: ${failed[*]} (inputs in .build/fuzz/failures; logs in .build/fuzz)"
fi
