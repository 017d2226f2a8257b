"""Checks of the source tree for check.sh. Reads the output of `swift package describe --type json`.

The table of rooms in docs/architecture.md is the authority on who may import whom; Package.swift and the sources are
held against it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES_WANTED = 400
LINES_MAX = 600
FUNCTION_LINES_WANTED = 60

SYSTEM_MODULES = {"Glibc", "Musl", "Synchronization", "Swift"}
FORBIDDEN = [
    (re.compile(r"\btry!"), "try!"),
    (re.compile(r"\bas!"), "as!"),
    (re.compile(r"\bfatalError\("), "fatalError("),
    (re.compile(r"^\s*(?:\w+ )?import Foundation"), "import Foundation"),
    (re.compile(r"^\s*public (?!import)"), "public declaration (use package)"),
]
# Things of one machine, or of the place the code was written at, never belong in the tree.
FOREIGN = re.compile(
    r"(?<![\w.$}])/(?:home|Users)/[a-z]\w+|(?<![\w.$}])/(?:root|work|tmp/h|opt/swift|opt/wheels)/"
    r"|find-links|index-url|\b(?:pypi|npmjs)\.(?:org|com)\b|pythonhosted|deb\.debian\.org"
)
IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+"
    r"(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)"
)
DECLARATION = re.compile(
    r"^\s*(?:(?:@\w+(?:\([^)]*\))?|final|static|indirect|override|mutating|nonmutating|nonisolated|borrowing|consuming"
    r"|unsafe|convenience|required)\s+)*package\s+(?:(?:final|static|indirect|override|mutating|nonmutating|nonisolated"
    r"|borrowing|consuming|unsafe|convenience|required)\s+)*"
    r"(struct|class|enum|protocol|actor|func|typealias)\s+([^\s(<:{]+)"
)
SWIFT_COMMENT = re.compile(r"//.*$")

problems: list[str] = []
notes: list[str] = []


def allowed_imports() -> dict[str, set[str]]:
    """The table of docs/architecture.md: `| layer | `Target` | job | imports |`."""
    table: dict[str, set[str]] = {}
    text = (ROOT / "docs/architecture.md").read_text()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 4 or not re.fullmatch(r"\d|C", cells[0]):
            continue
        for name in re.findall(r"`([\w-]+)`", cells[1]):
            table[name] = set(re.findall(r"`([\w-]+)`", cells[3]))
    return table


def check_directions(description: dict) -> None:
    table = allowed_imports()
    modules = {target["c99name"]: target["name"] for target in description["targets"]}
    for target in description["targets"]:
        if target["type"] == "test" or not target["path"].startswith("Sources/"):
            continue
        name = target["name"]
        if name not in table:
            problems.append(f"{name}: no row in the table of docs/architecture.md")
            continue
        declared = set(target.get("target_dependencies", []))
        products = set(target.get("product_dependencies", []))
        for extra in sorted((declared | products) - table[name]):
            problems.append(f"Package.swift: {name} depends on {extra}, which docs/architecture.md does not allow")
        if target["module_type"] != "SwiftTarget":
            continue
        for source in target["sources"]:
            path = ROOT / target["path"] / source
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = IMPORT.match(line)
                if not match:
                    continue
                module = modules.get(match.group(1), match.group(1))
                if module in SYSTEM_MODULES or module == name:
                    continue
                if module not in declared | products:
                    problems.append(f"{path.relative_to(ROOT)}:{number}: imports {module}, which {name} does not declare")


def protocol_requirements(sources: list[Path]) -> set[str]:
    """Names of functions that protocols of the tree ask for: their witnesses are documented at the protocol."""
    names = {"log", "hash", "==", "<", "encode", "makeIterator", "next"}
    for path in sources:
        depth = 0
        for line in path.read_text().splitlines():
            code = SWIFT_COMMENT.sub("", line)
            if depth == 0 and re.search(r"\bprotocol\s+\w+", code):
                depth = code.count("{") - code.count("}")
                continue
            if depth > 0:
                if match := re.search(r"\bfunc\s+([^\s(<]+)", code):
                    names.add(match.group(1))
                depth += code.count("{") - code.count("}")
    return names


def check_source(path: Path, witnesses: set[str]) -> None:
    name = path.relative_to(ROOT)
    lines = path.read_text().splitlines()
    if len(lines) > LINES_MAX:
        problems.append(f"{name}: {len(lines)} lines, at most {LINES_MAX}; split it by concept")
    elif len(lines) > LINES_WANTED:
        notes.append(f"{name}: {len(lines)} lines (aim: {LINES_WANTED})")
    function: tuple[int, str, str] | None = None
    for number, line in enumerate(lines, 1):
        code = SWIFT_COMMENT.sub("", line)
        for pattern, what in FORBIDDEN:
            if pattern.search(code):
                problems.append(f"{name}:{number}: {what}")
        match = DECLARATION.match(code)
        if match and not (match.group(1) == "func" and match.group(2) in witnesses):
            above = number - 2
            while above >= 0 and (lines[above].strip().startswith("@") or lines[above].strip().startswith("// swift-format")):
                above -= 1
            if above < 0 or not lines[above].strip().startswith(("///", "*/")):
                problems.append(f"{name}:{number}: package {match.group(1)} {match.group(2)} has no doc comment")
        start = re.match(r"^(\s*)(?:[\w@()]+ )*(?:func ([^\s(<]+)|(init)[?(<])", code)
        if start and code.rstrip().endswith("{"):
            function = (number, start.group(1), start.group(2) or "init")
        elif function and line.rstrip() == function[1] + "}":
            if number - function[0] > FUNCTION_LINES_WANTED:
                notes.append(f"{name}:{function[0]}: {function[2]} has {number - function[0]} lines (aim: {FUNCTION_LINES_WANTED})")
            function = None


def check_metrics(sources: list[Path]) -> None:
    """Each declared metric family is used by some code, and docs/metrics.md lists exactly the declared ones."""
    names = sorted((ROOT / "Sources/Telemetry").glob("MetricNames*.swift"))
    texts = {path: path.read_text() for path in names}
    found = [
        (path, *pair)
        for path in names
        for pair in re.findall(r'static let (\w+) = MetricDescription\(\s*"(\w+)"', texts[path])
    ]
    declared = [pair for _, *pair in found]
    uses = "".join(path.read_text() for path in sources if path not in texts)
    # Those that the files themselves register come behind the declarations.
    uses += "".join(text.partition("extension MetricRegistry")[2] for text in texts.values())
    for path, constant, family in found:
        if not re.search(rf"\.{constant}\b", uses):
            problems.append(f"{path.relative_to(ROOT)}: {constant} ({family}) is declared, and nothing feeds it")
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    for family in sorted(listed ^ {family for _, family in declared}):
        where = "is not declared" if family in listed else "is missing"
        problems.append(f"docs/metrics.md: {family} {where}")


def check_foreign() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        if not path.is_file() or path.resolve() == Path(__file__).resolve():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := FOREIGN.search(line):
                problems.append(f"{name}:{number}: names a place outside the project: {match.group(0)}")


def main() -> int:
    description = json.loads(Path(sys.argv[1]).read_text())
    sources = sorted((ROOT / "Sources").rglob("*.swift"))
    check_directions(description)
    witnesses = protocol_requirements(sources)
    for path in sources:
        check_source(path, witnesses)
    check_metrics(sources)
    check_foreign()
    for note in notes:
        print(f"note: {note}")
    for problem in problems:
        print(f"error: {problem}")
    print(f"tree: {len(sources)} source files, {len(problems)} problems, {len(notes)} notes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
