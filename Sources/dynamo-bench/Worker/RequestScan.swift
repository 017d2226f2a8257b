// What the fake worker reads from a request body: four members, found without looking at the inside of long strings.

import Base
import Glibc

/// The members of a chat request that decide what the fake worker sends.
struct RequestScan: Equatable {
  var stream = false
  var includeUsage = false
  var maxTokens: Int?
  /// Offset behind `"messages":`.
  var messages: Int?

  /// Scans the JSON object in `body`; nil when brackets or strings are not closed. Not a validator.
  static func scan(_ body: UnsafeRawBufferPointer) -> RequestScan? {
    var result = RequestScan()
    var depth = 0
    var key = body.slice(0..<0)
    var outerKey = key
    var position = 0
    while position < body.count {
      switch body[position] {
      case UInt8(ascii: "\""):
        guard let end = endOfString(body, position + 1) else { return nil }
        key = body.slice((position + 1)..<end)
        position = end
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        if depth == 1 { outerKey = key }
        depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if depth == 0 { return result }
      case UInt8(ascii: ":"):
        let value = body.slice((position + 1)..<body.count)
        if depth == 1 {
          result.take(key, value, at: position + 1)
        } else if depth == 2, outerKey.equals("stream_options"), key.equals("include_usage") {
          result.includeUsage = isTrue(value)
        }
      default: break
      }
      position += 1
    }
    return nil
  }

  private mutating func take(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, at offset: Int) {
    if key.equals("stream") {
      stream = Self.isTrue(value)
    } else if key.equals("max_tokens") || key.equals("max_completion_tokens") {
      maxTokens = Self.number(value) ?? maxTokens
    } else if key.equals("messages") || key.equals("prompt") {
      messages = offset
    }
  }

  private static func endOfString(_ body: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    guard let base = body.baseAddress else { return nil }
    var from = start
    while from < body.count, let hit = memchr(base + from, 0x22, body.count - from) {
      let quote = UnsafeRawPointer(hit) - base
      var backslashes = 0
      while quote - backslashes > start, body[quote - backslashes - 1] == 0x5c { backslashes += 1 }
      if backslashes % 2 == 0 { return quote }
      from = quote + 1
    }
    return nil
  }

  private static func isTrue(_ value: UnsafeRawBufferPointer) -> Bool {
    value.has("true", at: value.firstIndex { $0 != 0x20 } ?? 0)
  }

  private static func number(_ value: UnsafeRawBufferPointer) -> Int? {
    let start = value.firstIndex { $0 != 0x20 } ?? 0
    let digits = value.slice(start..<value.count).prefix { (0x30...0x39).contains($0) }
    return value.slice(start..<(start + digits.count)).decimal
  }
}
