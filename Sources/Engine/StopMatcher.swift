// Looks for stop strings in output that arrives piece by piece.

internal import Base

/// Holds back text that may be the beginning of a stop string, and finds the first whole one.
///
/// Invariant: what was released holds no stop string and no beginning of one at its end.
struct StopMatcher: ~Copyable {
  private let stops: [[UInt8]]
  private var held = ByteBuffer()

  /// Creates a matcher for the texts of `stops`; empty ones are ignored.
  init(_ stops: [String]) { self.stops = stops.filter { !$0.isEmpty }.map { Array($0.utf8) } }

  /// Takes the text that `write` appends, moves to `out` what may be shown, and returns true when a stop string is
  /// complete; the text behind it is dropped.
  mutating func receive(_ out: inout ByteBuffer, _ write: (inout ByteBuffer) -> Void) -> Bool {
    guard !stops.isEmpty else {
      write(&out)
      return false
    }
    write(&held)
    let text = held.readable
    if let start = firstStop(in: text) {
      out.append(text.slice(0..<start))
      held.removeAll()
      return true
    }
    let safe = text.count - openEnd(of: text)
    out.append(text.slice(0..<safe))
    held.consume(safe)
    return false
  }

  /// Releases what is held back, when the text ends for another reason.
  mutating func flush(_ out: inout ByteBuffer) {
    out.append(held.readable)
    held.removeAll()
  }

  /// Where the earliest complete stop string begins.
  private func firstStop(in text: UnsafeRawBufferPointer) -> Int? {
    var first: Int?
    for stop in stops where stop.count <= text.count {
      for start in 0...(text.count - stop.count) {
        if let first, start >= first { break }
        if text.slice(start..<start + stop.count).elementsEqual(stop) {
          first = start
          break
        }
      }
    }
    return first
  }

  /// The length of the longest end of `text` with which some stop string begins.
  private func openEnd(of text: UnsafeRawBufferPointer) -> Int {
    var longest = 0
    for stop in stops {
      var length = min(stop.count - 1, text.count)
      while length > longest {
        if text.slice(text.count - length..<text.count).elementsEqual(stop.prefix(length)) {
          longest = length
          break
        }
        length -= 1
      }
    }
    return longest
  }
}
