// One verifier for event streams: events found whole, byte by byte and cut at every point must be the same.

import Base
import HTTP
import Testing

/// An event, copied out of its input.
struct EventSnapshot: Equatable {
  let kind: SSEEventKind
  let data: String?
}

enum EventVerifier {
  /// Scans `bytes` in every way, expects the same events, and returns them with the bytes that stay over.
  static func scan(_ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation)
    -> (events: [EventSnapshot], rest: String)
  {
    let memory = GuardedMemory(capacity: bytes.count)
    let whole = drive(memory, bytes, ends: [bytes.count])
    let single = drive(memory, bytes, ends: Array(stride(from: 1, through: bytes.count, by: 1)))
    #expect(single.events == whole.events, "byte by byte", sourceLocation: sourceLocation)
    for cut in stride(from: 1, to: bytes.count, by: 1) {
      let split = drive(memory, bytes, ends: [cut, bytes.count])
      if split.events != whole.events || split.rest != whole.rest {
        #expect(split.events == whole.events, "cut at \(cut)", sourceLocation: sourceLocation)
        #expect(split.rest == whole.rest, "cut at \(cut)", sourceLocation: sourceLocation)
        break
      }
    }
    return whole
  }

  /// Offers what is left over and what is new together, as a relay does.
  static func drive(_ memory: GuardedMemory, _ bytes: [UInt8], ends: [Int])
    -> (events: [EventSnapshot], rest: String)
  {
    var scanner = SSEScanner()
    var events: [EventSnapshot] = []
    var start = 0
    for end in ends {
      start += memory.with(bytes[start..<end]) { input in
        var from = 0
        while let event = scanner.next(input, from: &from) {
          #expect(event.whole.upperBound == from && !event.whole.isEmpty)
          events.append(EventSnapshot(kind: event.kind, data: event.data?.text))
        }
        return from
      }
    }
    return (events, String(decoding: bytes[start...], as: UTF8.self))
  }
}
