"""Prints line coverage by room from the JSON that `swift test --show-codecov-path` names."""

import json
import sys
from collections import defaultdict
from pathlib import Path

# Rooms that do no I/O: these are meant to reach 95 % of their lines by unit tests alone.
PURE = {"Base", "JSON", "Protobuf", "HTTP", "OpenAI", "Routing", "Telemetry", "GRPC", "Settings", "Engine"}


def main() -> None:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for file in json.loads(Path(sys.argv[1]).read_text())["data"][0]["files"]:
        parts = Path(file["filename"]).parts
        if "Sources" not in parts or ".build" in parts:
            continue
        room = parts[parts.index("Sources") + 1]
        lines = file["summary"]["lines"]
        counts[room][0] += lines["covered"]
        counts[room][1] += lines["count"]
    for room, (covered, count) in sorted(counts.items()):
        share = 100 * covered / count if count else 100
        mark = "  (aim: 95)" if room in PURE and share < 95 else ""
        print(f"coverage {room:16} {share:5.1f} % of {count} lines{mark}")


if __name__ == "__main__":
    main()
