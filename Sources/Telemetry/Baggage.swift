// The baggage header: a caller's own names and values, which ride along to the worker (W3C Baggage).

package import Base

/// Passes `baggage` on, member by member and within bounds. Nothing of it is interpreted.
///
/// Feed each header line to ``add(_:to:)`` in order: several lines become one list. Members that are not of the
/// standard's form, and those that no longer fit, are left out and counted.
package struct Baggage: Sendable {
  /// Most members of a list (the standard's grammar; it asks for at least 64 to be passed on).
  package static let memberCountMax = 180
  /// Most bytes of a list with its commas (the standard asks for at least as many).
  package static let bytesMax = 8_192

  /// Members that were passed on.
  package private(set) var memberCount = 0
  /// Members that were left out.
  package private(set) var droppedCount = 0
  private var byteCount = 0

  package init() {}

  /// Appends the members of one header line to `list`, without the white space around them.
  package mutating func add(_ value: UnsafeRawBufferPointer, to list: inout ByteBuffer) {
    var start = 0
    while start <= value.count {
      var end = start
      while end < value.count, value[end] != UInt8(ascii: ",") { end += 1 }
      let member = value.slice(start..<end).trimmed
      start = end + 1
      if member.isEmpty { continue }
      let size = member.count + (memberCount > 0 ? 1 : 0)
      guard memberCount < Baggage.memberCountMax, byteCount + size <= Baggage.bytesMax, Self.isMember(member)
      else {
        droppedCount += 1
        continue
      }
      if memberCount > 0 { list.append(UInt8(ascii: ",")) }
      list.append(member)
      memberCount += 1
      byteCount += size
    }
  }

  /// Whether `member` is `key=value`, with or without properties: a token, and behind it only bytes that a value or a
  /// property may hold.
  static func isMember(_ member: UnsafeRawBufferPointer) -> Bool {
    guard let equals = member.firstIndex(of: UInt8(ascii: "=")) else { return false }
    let key = member.slice(0..<equals).trimmed
    return !key.isEmpty && key.allSatisfy(isTokenByte)
      && member.slice(equals + 1..<member.count).allSatisfy(isValueByte)
  }

  /// RFC 9110 section 5.6.2.
  private static func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
      UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
      true
    default: false
    }
  }

  /// `baggage-octet`, and the semicolons and white space between properties.
  private static func isValueByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x20, 0x09: true
    case UInt8(ascii: "\""), UInt8(ascii: ","), UInt8(ascii: "\\"): false
    default: (0x21...0x7e).contains(byte)
    }
  }
}
