// Text inside log lines: escaped, bounded, and unable to forge a line or to steer a terminal.

internal import Base

/// Appends text of any origin to log lines.
enum LogText {
  /// True when every byte is printable ASCII other than `"` and `\`, so that the text goes in as it is.
  @inline(__always)
  static func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return true }
    let count = bytes.count
    if count < 8 {
      for offset in 0..<count {
        let byte = base.load(fromByteOffset: offset, as: UInt8.self)
        if byte < 0x20 || byte >= 0x7f || byte == 0x22 || byte == 0x5c { return false }
      }
      return true
    }
    var offset = 0
    while offset + 8 <= count {
      if !isPlain(base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) { return false }
      offset += 8
    }
    // The last eight bytes once more, instead of a loop over the rest.
    return isPlain(base.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self))
  }

  @inline(__always)
  private static func isPlain(_ word: UInt64) -> Bool {
    let high: UInt64 = 0x8080_8080_8080_8080
    let ones: UInt64 = 0x0101_0101_0101_0101
    // Each term raises the high bit of a byte that is: a control, DEL, a quote, a backslash, not ASCII.
    let control = (word &- 0x20 &* ones) & ~word
    let delete = (word ^ 0x7f &* ones) &- ones
    let quote = (word ^ 0x22 &* ones) &- ones
    let backslash = (word ^ 0x5c &* ones) &- ones
    return (control | delete | quote | backslash | word) & high == 0
  }

  /// Appends `bytes` with JSON's escapes, without quotes around them. Invalid UTF-8 becomes U+FFFD, and
  /// control characters of all kinds are written as `\u00xx`.
  static func append(escaped bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    if isPlain(bytes) {
      out.append(bytes)
      return
    }
    for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
      switch scalar {
      case "\"": out.append("\\\"" as StaticString)
      case "\\": out.append("\\\\" as StaticString)
      case "\n": out.append("\\n" as StaticString)
      case "\r": out.append("\\r" as StaticString)
      case "\t": out.append("\\t" as StaticString)
      default:
        if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
          out.append("\\u00" as StaticString)
          out.append(Hex.digit(UInt8(scalar.value >> 4)))
          out.append(Hex.digit(UInt8(scalar.value & 0xf)))
        } else {
          for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter { out.append(byte) }
        }
      }
    }
  }

  /// True when a value needs no quotes in a readable line.
  static func isBare(_ bytes: UnsafeRawBufferPointer) -> Bool {
    !bytes.isEmpty && isPlain(bytes) && !bytes.contains { $0 == 0x20 || $0 == UInt8(ascii: "=") }
  }
}

/// Writes points in time as `2025-11-20T10:31:02.114503Z`, keeping the part that changes once a second.
struct LogClock: ~Copyable {
  private let utcOffset: UTCOffset?
  private var prefix = ByteBuffer()
  private var suffix = ByteBuffer()
  private var second = UInt64.max

  init(utcOffset: UTCOffset?) { self.utcOffset = utcOffset }

  /// The zone of a time: `Z` where it is UTC by choice, else hours and minutes, which are `+00:00` in London's winter.
  private mutating func writeZone(_ offset: Int) {
    suffix.removeAll()
    guard utcOffset != nil else {
      suffix.append(UInt8(ascii: "Z"))
      return
    }
    let minutes = abs(offset) / 60
    suffix.append(offset < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"))
    suffix.append(twoDigits: minutes / 60)
    suffix.append(UInt8(ascii: ":"))
    suffix.append(twoDigits: minutes % 60)
  }

  /// Appends `time`, in nanoseconds since the Unix epoch.
  mutating func append(_ time: UInt64, to out: inout ByteBuffer) {
    let seconds = time / 1_000_000_000
    if seconds != second { restart(at: seconds) }
    out.append(prefix.readable)
    let room = out.reserve(6).assumingMemoryBound(to: UInt8.self)
    var rest = UInt32(truncatingIfNeeded: (time - seconds * 1_000_000_000) / 1_000)
    for index in 0..<6 {
      room[5 - index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    out.commit(6)
    out.append(suffix.readable)
  }

  /// Makes the prefix for `seconds`: the civil date by the usual 400-year cycle of the Gregorian calendar.
  private mutating func restart(at seconds: UInt64) {
    second = seconds
    let offset = utcOffset?(seconds) ?? 0
    writeZone(offset)
    let local = Int(seconds) + offset
    let secondOfDay = ((local % 86_400) + 86_400) % 86_400
    let days = (local - secondOfDay) / 86_400
    // Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    prefix.removeAll()
    prefix.append(decimal: year)
    prefix.append(UInt8(ascii: "-"))
    prefix.append(twoDigits: month)
    prefix.append(UInt8(ascii: "-"))
    prefix.append(twoDigits: day)
    prefix.append(UInt8(ascii: "T"))
    prefix.append(twoDigits: secondOfDay / 3_600)
    prefix.append(UInt8(ascii: ":"))
    prefix.append(twoDigits: secondOfDay / 60 % 60)
    prefix.append(UInt8(ascii: ":"))
    prefix.append(twoDigits: secondOfDay % 60)
    prefix.append(UInt8(ascii: "."))
  }
}

extension ByteBuffer {
  fileprivate mutating func append(twoDigits value: Int) {
    append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / 10 % 10))
    append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value % 10))
  }
}
