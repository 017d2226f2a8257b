// Writing JSON text into a byte buffer.

package import Base
internal import CBytes

extension ByteBuffer {
  /// Appends `text` as a JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD each.
  package mutating func append(jsonString text: UnsafeRawBufferPointer) {
    append(UInt8(ascii: "\""))
    append(jsonContents: text)
    append(UInt8(ascii: "\""))
  }

  /// Appends `text` as a JSON string with its quotes.
  package mutating func append(jsonString text: String) {
    append(UInt8(ascii: "\""))
    append(jsonContents: text)
    append(UInt8(ascii: "\""))
  }

  /// Appends `text` escaped for the inside of a JSON string, without quotes.
  package mutating func append(jsonContents text: String) {
    var text = text
    text.withUTF8 { append(jsonContents: UnsafeRawBufferPointer($0)) }
  }

  /// Appends `text` escaped for the inside of a JSON string, without quotes. Bytes that are no UTF-8 become U+FFFD.
  package mutating func append(jsonContents text: UnsafeRawBufferPointer) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    var index = 0
    while index < text.count {
      var high: UInt32 = 0
      let run = cbytes_json_text_run(base + index, text.count - index, &high)
      if high == 0 {
        append(text.slice(index..<(index + run)))
      } else {
        append(repairing: text.slice(index..<(index + run)))
      }
      index += run
      guard index < text.count else { return }
      append(escaped: base[index])
      index += 1
    }
  }

  /// Appends `"key":`. The key must need no escapes.
  package mutating func append(jsonKey key: StaticString) {
    let length = key.utf8CodeUnitCount
    let room = reserve(length + 3)
    room.storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    (room + 1).copyMemory(from: key.utf8Start, byteCount: length)
    (room + length + 1).storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    (room + length + 2).storeBytes(of: UInt8(ascii: ":"), as: UInt8.self)
    commit(length + 3)
  }

  /// Appends `true` or `false`.
  package mutating func append(jsonBool flag: Bool) {
    append(flag ? "true" as StaticString : "false")
  }

  /// Appends the shortest text that reads back as `number`; `null` when it is not finite, since JSON has no word for it.
  package mutating func append(jsonNumber number: Double) {
    if number.isFinite { append(number.description) } else { append("null" as StaticString) }
  }

  /// Appends `value` without white space.
  package mutating func append(_ value: JSONValue) {
    switch value {
    case .null: append("null" as StaticString)
    case .bool(let flag): append(jsonBool: flag)
    case .integer(let number): append(decimal: number)
    case .double(let number): append(jsonNumber: number)
    case .string(let text): append(jsonString: text)
    case .array(let elements):
      append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { append(UInt8(ascii: ",")) }
        append(element)
      }
      append(UInt8(ascii: "]"))
    case .object(let members):
      append(UInt8(ascii: "{"))
      for (index, member) in members.enumerated() {
        if index > 0 { append(UInt8(ascii: ",")) }
        append(jsonString: member.key)
        append(UInt8(ascii: ":"))
        append(member.value)
      }
      append(UInt8(ascii: "}"))
    }
  }

  /// Appends `json`, which must have passed a ``JSONScanner``, without the white space outside its strings.
  package mutating func append(minified json: UnsafeRawBufferPointer) {
    guard let base = json.bindMemory(to: UInt8.self).baseAddress else { return }
    let count = json.count
    let room = reserve(count).assumingMemoryBound(to: UInt8.self)
    var written = 0
    var index = 0
    while index < count {
      let byte = base[index]
      if byte <= 0x20 {
        index += 1
        continue
      }
      guard byte == UInt8(ascii: "\"") else {
        room[written] = byte
        written += 1
        index += 1
        continue
      }
      var end = index + 1
      while end < count {
        end += cbytes_json_string_run(base + end, count - end)
        guard end < count, base[end] == UInt8(ascii: "\\") else { break }
        end += 2
      }
      end = min(end + 1, count)
      (room + written).update(from: base + index, count: end - index)
      written += end - index
      index = end
    }
    commit(written)
  }

  /// Appends a run that holds bytes above 0x7f, each byte outside valid UTF-8 replaced.
  private mutating func append(repairing run: UnsafeRawBufferPointer) {
    guard let base = run.bindMemory(to: UInt8.self).baseAddress else { return }
    var index = 0
    while index < run.count {
      let valid = cbytes_utf8_prefix(base + index, run.count - index)
      append(run.slice(index..<(index + valid)))
      index += valid
      guard index < run.count else { return }
      append("\u{fffd}" as StaticString)
      index += 1
    }
  }

  /// Appends the escape for a quote, a backslash or a control byte.
  private mutating func append(escaped byte: UInt8) {
    append(UInt8(ascii: "\\"))
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): append(byte)
    case 0x08: append(UInt8(ascii: "b"))
    case 0x09: append(UInt8(ascii: "t"))
    case 0x0a: append(UInt8(ascii: "n"))
    case 0x0c: append(UInt8(ascii: "f"))
    case 0x0d: append(UInt8(ascii: "r"))
    default:
      append("u00" as StaticString)
      append(Hex.digit(byte >> 4))
      append(Hex.digit(byte & 0xf))
    }
  }
}
