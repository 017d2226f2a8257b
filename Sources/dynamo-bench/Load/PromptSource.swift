// Prompts that are new for each seed and cheap to make: slices of a random pool behind words that are unique.

import Base

/// Makes prompts of three-letter words; with groups, a group's prompts have their first 90 % in common.
///
/// Two sources with the same seed and shape make the same sequence.
struct PromptSource {
  private static let wordBytes = 4
  private static let uniqueWords = 4

  private let words: Int
  private let prefixes: [[UInt8]]
  private let pool: [UInt8]
  private var random: Xoshiro256
  private var serial: UInt64 = 0

  init(words: Int, groups: Int, seed: UInt64) {
    self.words = max(words, 1)
    var random = Xoshiro256(seed: seed)
    let shared = groups > 0 ? Int(Double(self.words) * Workload.sharedShare) : 0
    prefixes = (0..<max(groups, 0)).map { _ in Self.randomWords(shared, &random) }
    pool = Self.randomWords(2 * (self.words - shared) + 64, &random)
    self.random = random
  }

  /// Appends the next prompt, lower-case letters and blanks only, so that it needs no JSON escapes.
  /// The group is drawn: taking turns would fall into step with a server that takes workers in turns.
  mutating func append(to buffer: inout ByteBuffer) {
    var rest = words * Self.wordBytes
    if !prefixes.isEmpty {
      let prefix = prefixes[Int(random.next() % UInt64(prefixes.count))]
      buffer.append(prefix)
      rest -= prefix.count
    }
    serial += 1
    var unique = random.next() ^ serial
    for _ in 0..<Self.uniqueWords where rest > 0 {
      Self.appendWord(&unique, to: &buffer)
      rest -= Self.wordBytes
    }
    guard rest > 0 else { return }
    let offset =
      Int(random.next() % UInt64(pool.count / Self.wordBytes - rest / Self.wordBytes)) * Self.wordBytes
    pool.withUnsafeBytes { buffer.append($0.slice(offset..<(offset + rest))) }
  }

  private static func appendWord(_ bits: inout UInt64, to buffer: inout ByteBuffer) {
    for _ in 0..<3 {
      buffer.append(UInt8(ascii: "a") + UInt8(truncatingIfNeeded: bits % 26))
      bits /= 26
    }
    buffer.append(UInt8(ascii: " "))
  }

  private static func randomWords(_ count: Int, _ random: inout Xoshiro256) -> [UInt8] {
    var buffer = ByteBuffer(capacity: count * wordBytes)
    for _ in 0..<count {
      var bits = random.next()
      appendWord(&bits, to: &buffer)
    }
    return buffer.bytes
  }
}
