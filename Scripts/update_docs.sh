#!/usr/bin/env bash
# Writes what documents take from elsewhere anew: the settings tables of docs/configuration.md from what the executables
# print with --dump, and the tables of docs/tracing.md from the schema of spans.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
python3 Scripts/span_schema.py
find_binaries
python3 - docs/configuration.md <(dynamo-frontend --dump) <(dynamo-worker --dump) <(dynamo-tempo --dump) <<'PYTHON'
import sys
from pathlib import Path

page = Path(sys.argv[1])
begin, end = "<!-- settings: begin -->\n", "<!-- settings: end -->"
text = page.read_text()
before, rest = text.split(begin)
after = rest.split(end)[1]
tables = ""
for name, path in (("dynamo-frontend", sys.argv[2]), ("dynamo-worker", sys.argv[3]), ("dynamo-tempo", sys.argv[4])):
    # The headings of the dump are one level below the program's here.
    dump = Path(path).read_text().strip().replace("### ", "#### ")
    tables += f"\n### {name}\n\n{dump}\n"
page.write_text(f"{before}{begin}{tables}\n{end}{after}")
PYTHON
