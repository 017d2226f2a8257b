// Writing request and response heads.

package import Base

extension ByteBuffer {
  /// Appends `HTTP/1.1 status reason CRLF`. `status` is 100 to 599; one without a registered reason gets none.
  package mutating func beginResponse(status: Int) {
    if let line = StatusLine.text(status) {
      append(line)
    } else {
      append("HTTP/1.1 " as StaticString)
      append(decimal: min(max(status, 100), 999))
      append(" \r\n" as StaticString)
    }
  }

  /// Appends `method SP target SP HTTP/1.1 CRLF`. `method` is not `other`; `target` must be a valid request target.
  package mutating func beginRequest(_ method: Method, target: UnsafeRawBufferPointer) {
    append(method.name)
    requestTarget(target)
  }

  /// Appends `method SP target SP HTTP/1.1 CRLF`. `method` must be a token and `target` a valid request target.
  package mutating func beginRequest(_ method: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer) {
    append(method)
    requestTarget(target)
  }

  /// Appends `method SP target SP HTTP/1.1 CRLF`.
  package mutating func beginRequest(_ method: Method, target: StaticString) {
    append(method.name)
    requestTarget(UnsafeRawBufferPointer(start: target.utf8Start, count: target.utf8CodeUnitCount))
  }

  private mutating func requestTarget(_ target: UnsafeRawBufferPointer) {
    append(UInt8(ascii: " "))
    append(target)
    append(" HTTP/1.1\r\n" as StaticString)
  }

  /// Appends `name: value CRLF`. `value` must hold no CR, LF or NUL: a slice of a parsed head does not.
  package mutating func header(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
    let nameBytes = name.utf8CodeUnitCount
    let bytes = nameBytes + value.count + 4
    let room = reserve(bytes)
    room.copyMemory(from: name.utf8Start, byteCount: nameBytes)
    room.storeBytes(of: Self.colonSpace, toByteOffset: nameBytes, as: UInt16.self)
    if let source = value.baseAddress {
      (room + nameBytes + 2).copyMemory(from: source, byteCount: value.count)
    }
    room.storeBytes(of: Self.lineEnd, toByteOffset: bytes - 2, as: UInt16.self)
    commit(bytes)
  }

  /// Appends `name: value CRLF`.
  package mutating func header(_ name: StaticString, _ value: StaticString) {
    header(name, UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
  }

  /// Appends `name: value CRLF` with `value` in decimal digits.
  package mutating func header(_ name: StaticString, _ value: Int) {
    append(name)
    append(": " as StaticString)
    append(decimal: value)
    append("\r\n" as StaticString)
  }

  /// Appends `name: text CRLF`; control bytes in `text` become spaces, so that text from outside cannot end the
  /// line. For cold paths.
  package mutating func header(_ name: StaticString, text: String) {
    append(name)
    append(": " as StaticString)
    var text = text
    text.withUTF8 { bytes in
      let room = reserve(bytes.count).assumingMemoryBound(to: UInt8.self)
      for (index, byte) in bytes.enumerated() {
        room[index] = byte < 0x20 || byte == 0x7f ? UInt8(ascii: " ") : byte
      }
      commit(bytes.count)
    }
    append("\r\n" as StaticString)
  }

  /// Appends a field line of a parsed head (``HeaderFields/line(_:)``) and its CRLF.
  package mutating func header(line: UnsafeRawBufferPointer) {
    guard let source = line.baseAddress else { return }
    let room = reserve(line.count + 2)
    room.copyMemory(from: source, byteCount: line.count)
    room.storeBytes(of: Self.lineEnd, toByteOffset: line.count, as: UInt16.self)
    commit(line.count + 2)
  }

  /// Appends the empty line that ends a head.
  package mutating func endHead() {
    append("\r\n" as StaticString)
  }

  // The two bytes of ": " and CRLF, in memory order.
  private static var colonSpace: UInt16 { UInt16(littleEndian: 0x203a) }
  private static var lineEnd: UInt16 { UInt16(littleEndian: 0x0a0d) }
}
