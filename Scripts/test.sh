#!/usr/bin/env bash
# Everything that has to pass, in stages: Scripts/test.sh [--full] [STAGE...]. Without stage names it runs them all.
# Each stage has a time limit and writes .build/test-logs/STAGE.log; a failed stage prints the end of its log, and the
# script goes on, so that one run tells all. --full adds sanitizers, longer fuzzing and the soak run. The stage vllm
# runs only where it is named: it installs 2.3 GB. A stage that cannot run here says why and counts as skipped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

logs="$ROOT/.build/test-logs"
full=0
fuzz_seconds=10

# CI treats warnings of this package as errors; on a developer's machine they are only shown.
[ "${CI:-}" = true ] && export DYNAMO_WARNINGS_AS_ERRORS=1

stage_bootstrap() { Scripts/bootstrap.sh test; }
stage_check() { Scripts/check.sh; }
stage_unit() {
  swift build --build-tests --enable-code-coverage
  swift test --skip-build --enable-code-coverage --disable-xctest
  python3 Scripts/coverage_report.py "$(swift test --show-codecov-path)"
}
stage_release() {
  swift build -c release --static-swift-stdlib
  ls -l .build/release/dynamo-frontend .build/release/dynamo-worker
}
stage_integration() {
  local -a selection=()
  [ "$full" -eq 1 ] && selection=(--full)
  DYNAMO_BIN="${DYNAMO_BIN:-$ROOT/.build/release}" .venv/bin/python -m pytest Tests/Integration "${selection[@]}"
}
stage_fuzz() {
  if [ ! -x Scripts/fuzz.sh ]; then
    say "no Scripts/fuzz.sh: nothing to fuzz"
    return 0
  fi
  Scripts/fuzz.sh "$fuzz_seconds"
}
stage_vllm() {
  local status=0
  Scripts/bootstrap.sh vllm || status=$?
  [ "$status" -eq 0 ] || exit "$status"
  DYNAMO_VLLM="$ROOT/.build/vllm/venv/bin/vllm" DYNAMO_BIN="${DYNAMO_BIN:-$ROOT/.build/release}" \
    .venv/bin/python -m pytest Tests/Integration/test_vllm.py
}
stage_tsan() {
  export DYNAMO_THREAD_SANITIZER=1
  swift build --build-tests --sanitize=thread --scratch-path .build/tsan
  TSAN_OPTIONS=halt_on_error=1 swift test --skip-build --sanitize=thread --scratch-path .build/tsan --disable-xctest
}
stage_asan() {
  # The tests are all Swift Testing; the runner of XCTest leaks, which this sanitizer would report.
  swift build --build-tests --sanitize=address --scratch-path .build/asan
  LSAN_OPTIONS="suppressions=$ROOT/Tests/leak-suppressions.txt" \
    swift test --skip-build --sanitize=address --scratch-path .build/asan --disable-xctest
}

# name:limit in seconds
quick=(bootstrap:300 check:180 unit:1500 release:1200 integration:1500 fuzz:900)
extra=(tsan:1500 asan:1500)
named=(vllm:1800)

stages=()
for argument in "$@"; do
  case "$argument" in
    --full)
      full=1
      fuzz_seconds=60
      ;;
    --run-stage) break ;;
    -*) die "usage: Scripts/test.sh [--full] [STAGE...]" ;;
    *) stages+=("$argument") ;;
  esac
done

# The inner call: one stage in a process of its own, so that a limit can end it with all its children.
if [ "${1:-}" = --run-stage ]; then
  full="$3"
  fuzz_seconds="$4"
  "stage_$2"
  exit 0
fi

available=("${quick[@]}")
[ "$full" -eq 1 ] && available+=("${extra[@]}")
limit_of() {
  local entry
  for entry in "${quick[@]}" "${extra[@]}" "${named[@]}"; do
    [ "${entry%%:*}" = "$1" ] && { printf '%s' "${entry##*:}"; return 0; }
  done
  return 1
}
if [ ${#stages[@]} -eq 0 ]; then
  for entry in "${available[@]}"; do stages+=("${entry%%:*}"); done
fi

mkdir -p "$logs"
summary=()
failed=0
begin="$SECONDS"
for stage in "${stages[@]}"; do
  limit="$(limit_of "$stage")" || die "no stage named $stage"
  [ "$full" -eq 1 ] && limit=$((limit * 4))
  log="$logs/$stage.log"
  say "== $stage"
  start="$SECONDS"
  status=0
  timeout --kill-after=10 "$limit" bash "$0" --run-stage "$stage" "$full" "$fuzz_seconds" >"$log" 2>&1 || status=$?
  took=$((SECONDS - start))
  if [ "$status" -eq 0 ]; then
    # The closing lines of the test runners, warnings that were worth shouting, and the last words.
    grep -E '^warning: |Test run with|^[0-9]+ (passed|failed|skipped).* in [0-9.]+s|^SKIPPED|^coverage' "$log" || tail -n 2 "$log"
    summary+=("$(printf 'ok      %-12s %5d s' "$stage" "$took")")
  elif [ "$status" -eq 77 ]; then
    tail -n 1 "$log"
    summary+=("$(printf 'skipped %-12s %5d s' "$stage" "$took")")
  else
    failed=1
    tail -n 200 "$log"
    [ "$status" -eq 124 ] && say "stage $stage ran into its limit of $limit s"
    summary+=("$(printf 'FAILED  %-12s %5d s (exit %d)' "$stage" "$took" "$status")")
  fi
done

say ""
printf '%s\n' "${summary[@]}"
say "total $((SECONDS - begin)) s"
exit "$failed"
