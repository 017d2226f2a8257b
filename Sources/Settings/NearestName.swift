// A hint for a mistyped name: the known name that needs the fewest edits.

/// The text " (did you mean …?)" when some name is near enough to `name`; else empty.
func hint(_ name: String, among names: [String], prefix: String = "") -> String {
  guard let nearest = nearestName(to: name, among: names) else { return "" }
  return " (did you mean \(prefix)\(nearest)?)"
}

/// The name with the fewest edits from `name`, at most one edit for three characters and `editsMax` in all; nil when none
/// is that near.
func nearestName(to name: String, among names: [String], editsMax: Int = 6) -> String? {
  var best: (name: String, edits: Int)?
  let limit = max(1, min(editsMax, name.count / 3))
  for candidate in names {
    let edits = editDistance(Array(name.utf8), Array(candidate.utf8))
    if edits <= limit, edits < best?.edits ?? Int.max { best = (candidate, edits) }
  }
  return best?.name
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var before: [Int] = []
  var previous = Array(0...b.count)
  for (i, byte) in a.enumerated() {
    var current = [i + 1]
    current.reserveCapacity(b.count + 1)
    for (j, other) in b.enumerated() {
      var edits = min(previous[j] + (byte == other ? 0 : 1), previous[j + 1] + 1, current[j] + 1)
      if i > 0, j > 0, byte == b[j - 1], other == a[i - 1] { edits = min(edits, before[j - 1] + 1) }
      current.append(edits)
    }
    before = previous
    previous = current
  }
  return previous[b.count]
}
