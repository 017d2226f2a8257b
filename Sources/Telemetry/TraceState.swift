// The tracestate header: other vendors' notes that ride along (W3C Trace Context level 2, section 3.3).

internal import Base

/// Joins, checks and carries `tracestate` as bytes; members are never interpreted.
///
/// Feed each header line to ``add(_:)`` in order, then read ``bytes``. Read it only when `traceparent` was
/// valid. One fault drops the whole state and never harms the trace.
package struct TraceState: ~Copyable {
  /// Most members a list may hold; one more invalidates it (section 3.3.1.1).
  package static let memberCountMax = 32
  /// Most bytes that are passed on; the standard asks for at least 512 (section 3.3.1.5).
  package static let bytesMax = 2_048
  /// Members longer than this go first when the list must shrink.
  static let largeMemberBytes = 128

  private var members = ByteBuffer()
  private var memberCount = 0
  private var isValid = true

  package init() {}

  /// The list to record and to pass on, without spaces or empty members; empty when none or invalid.
  package var bytes: UnsafeRawBufferPointer {
    isValid ? members.readable : UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// True when there is nothing to pass on.
  package var isEmpty: Bool { !isValid || members.isEmpty }

  /// Adds the members of one header line.
  package mutating func add(_ value: UnsafeRawBufferPointer) {
    var start = 0
    while isValid, start <= value.count {
      var end = start
      while end < value.count, value[end] != UInt8(ascii: ",") { end += 1 }
      let member = value.slice(start..<end).trimmed
      start = end + 1
      if member.isEmpty { continue }
      memberCount += 1
      guard memberCount <= TraceState.memberCountMax, TraceState.isMember(member) else {
        isValid = false
        return
      }
      if !members.isEmpty { members.append(UInt8(ascii: ",")) }
      members.append(member)
    }
    if members.count > TraceState.bytesMax { shrink(to: TraceState.bytesMax) }
  }

  /// Drops whole members until at most `limit` bytes are left: long ones first, then from the right.
  mutating func shrink(to limit: Int) {
    guard isValid, members.count > limit else { return }
    var kept: [[UInt8]] = members.readable.split(separator: UInt8(ascii: ",")).map { Array($0) }
    var size = kept.reduce(kept.count - 1) { $0 + $1.count }
    var index = kept.count - 1
    while size > limit, index >= 0 {
      if kept[index].count > TraceState.largeMemberBytes {
        size -= kept[index].count + 1
        kept.remove(at: index)
      }
      index -= 1
    }
    while size > limit, let last = kept.popLast() { size -= last.count + 1 }
    members.removeAll()
    for member in kept {
      if !members.isEmpty { members.append(UInt8(ascii: ",")) }
      members.append(member)
    }
  }

  /// Whether `member` is `key=value` by the grammar of section 3.3.1.3.
  static func isMember(_ member: UnsafeRawBufferPointer) -> Bool {
    guard let equals = member.firstIndex(of: UInt8(ascii: "=")) else { return false }
    let key = member.slice(0..<equals)
    let value = member.slice(equals + 1..<member.count)
    guard (1...256).contains(key.count), (1...256).contains(value.count) else { return false }
    guard isLetterOrDigit(key[0]), key.allSatisfy(isKeyByte) else { return false }
    return value[value.count - 1] != 0x20 && value.allSatisfy(isValueByte)
  }

  private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    default: false
    }
  }

  private static func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "@"): true
    default: isLetterOrDigit(byte)
    }
  }

  private static func isValueByte(_ byte: UInt8) -> Bool {
    (0x20...0x7e).contains(byte) && byte != UInt8(ascii: ",") && byte != UInt8(ascii: "=")
  }
}
