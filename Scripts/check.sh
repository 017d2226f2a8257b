#!/usr/bin/env bash
# The checks that need no build: format and lint, import directions, what sources may not contain, doc comments, lengths,
# shell syntax, and nothing of anybody's machine in the tree.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

failed=0

swift format lint --strict --recursive --parallel Package.swift Sources Tests || {
  say "format: run 'swift format -i --recursive Package.swift Sources Tests'"
  failed=1
}

description="$(mktemp)"
trap 'rm -f "$description"' EXIT
swift package describe --type json >"$description"
python3 Scripts/check_tree.py "$description" || failed=1

python3 Scripts/embed_page.py --check || failed=1
python3 Scripts/span_schema.py --check || failed=1
python3 Scripts/dashboards.py --check || failed=1

for script in Scripts/*.sh Scripts/launch/*.sh .ci/run; do
  bash -n "$script" || failed=1
done

[ "$failed" -eq 0 ] && say "check: clean"
exit "$failed"
