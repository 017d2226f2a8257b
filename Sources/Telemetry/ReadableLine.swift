// A JSON line as text for people, with colours where a terminal reads it. The writer thread does this, off every loop.

package import Base
internal import JSON

extension ByteBuffer {
  /// Appends the JSON line `line`, without its newline, in the form that ``LogRecordWriter`` gives readable lines. What is
  /// no JSON object goes in as it is.
  package mutating func append(readable line: UnsafeRawBufferPointer, coloured: Bool) {
    let start = count
    var painter = LinePainter(line: line, isColoured: coloured)
    do throws(JSONError) {
      try painter.paint(into: &self)
    } catch {
      truncate(to: start)
      append(line)
    }
  }
}

/// Writes one line. Strings keep JSON's escapes: readable lines have the same.
private struct LinePainter {
  let line: UnsafeRawBufferPointer
  let isColoured: Bool

  private static let dim: StaticString = "\u{1b}[2m"
  private static let plain: StaticString = "\u{1b}[0m"

  mutating func paint(into out: inout ByteBuffer) throws(JSONError) {
    var scanner = JSONScanner(line)
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      let value = line.slice(try scanner.skipValue())
      if key.equals("time", in: line) {
        dimmed(unquoted(value), &out)
      } else if key.equals("level", in: line) {
        level(unquoted(value), &out)
      } else if key.equals("target", in: line) {
        out.append(UInt8(ascii: " "))
        dimmed(unquoted(value), &out)
        out.append(": " as StaticString)
      } else if key.equals("message", in: line) {
        out.append(unquoted(value))
      } else {
        out.append(UInt8(ascii: " "))
        dimmed(line.slice(key.range), &out)
        out.append(UInt8(ascii: "="))
        let bare = unquoted(value)
        out.append(bare.count < value.count && LogText.isBare(bare) ? bare : value)
      }
    }
    try scanner.finish()
  }

  private func unquoted(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard value.count >= 2, value[0] == UInt8(ascii: "\"") else { return value }
    return value.slice(1..<value.count - 1)
  }

  private func dimmed(_ text: UnsafeRawBufferPointer, _ out: inout ByteBuffer) {
    if isColoured { out.append(Self.dim) }
    out.append(text)
    if isColoured { out.append(Self.plain) }
  }

  /// Right-aligned in five places.
  private func level(_ name: UnsafeRawBufferPointer, _ out: inout ByteBuffer) {
    out.append(name.count < 5 ? "  " as StaticString : " " as StaticString)
    if isColoured { out.append(Self.colour(name)) }
    out.append(name)
    if isColoured { out.append(Self.plain) }
  }

  private static func colour(_ level: UnsafeRawBufferPointer) -> StaticString {
    switch level.first {
    case UInt8(ascii: "E"): "\u{1b}[31m"
    case UInt8(ascii: "W"): "\u{1b}[33m"
    case UInt8(ascii: "I"): "\u{1b}[32m"
    case UInt8(ascii: "D"): "\u{1b}[34m"
    default: "\u{1b}[35m"
    }
  }
}
