// The text of a value turned into the value: one rule a kind, the same for flags, environment and file.

import Base

/// Why a text is no value of its kind.
struct ValueFault: Error {
  let message: String
}

extension SettingKind {
  /// Reads `text`, which is not empty.
  func read(_ text: String) throws(ValueFault) -> SettingValue {
    switch self {
    case .string: return .string(text)
    case .integer(let range): return .integer(try Self.integer(text, in: range))
    case .number(let range): return .number(try Self.number(text, in: range))
    case .boolean: return .boolean(try Self.boolean(text))
    case .duration(let unit): return .duration(try Self.duration(text, unit: unit))
    case .list: return .list(Self.items(text))
    case .choice(let words):
      let lowered = text.lowercased()
      guard let word = words.first(where: { $0.lowercased() == lowered }) else {
        throw ValueFault(message: "'\(text)' is none of \(words.joined(separator: ", "))")
      }
      return .string(word)
    }
  }

  private static func integer(_ text: String, in range: ClosedRange<Int>) throws(ValueFault) -> Int {
    guard let number = Int(text) else { throw ValueFault(message: "'\(text)' is not a whole number") }
    guard range.contains(number) else { throw ValueFault(message: "\(text) is not \(bounds(range))") }
    return number
  }

  private static func bounds(_ range: ClosedRange<Int>) -> String {
    range.upperBound == Int.max
      ? "at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
  }

  private static func number(_ text: String, in range: ClosedRange<Double>) throws(ValueFault) -> Double {
    guard let number = Double(text), number.isFinite else {
      throw ValueFault(message: "'\(text)' is not a number")
    }
    guard range.contains(number) else {
      let upper = range.upperBound >= .greatestFiniteMagnitude
      throw ValueFault(
        message: upper
          ? "\(text) is not at least \(range.lowerBound)"
          : "\(text) is not from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  private static func boolean(_ text: String) throws(ValueFault) -> Bool {
    switch text.lowercased() {
    case "1", "true", "on", "yes": return true
    case "0", "false", "off", "no": return false
    default: throw ValueFault(message: "'\(text)' is neither true nor false")
    }
  }

  private static func duration(_ text: String, unit: Nanoseconds) throws(ValueFault) -> Nanoseconds {
    let suffixes: [(text: String, unit: Nanoseconds)] = [
      ("ms", millisecond), ("s", second), ("m", 60 * second), ("h", 3600 * second),
    ]
    let digits = text.prefix { $0.isNumber || $0 == "." }
    let suffix = text.dropFirst(digits.count)
    let scale = suffix.isEmpty ? unit : suffixes.first { $0.text == suffix }?.unit
    guard let scale, let count = Double(digits), count.isFinite else {
      throw ValueFault(message: "'\(text)' is not a length of time such as 5, 0.5, 250ms, 5s, 2m or 1h")
    }
    let length = (count * Double(scale)).rounded()
    // A century: far beyond any sensible deadline, far below the clock's overflow.
    guard length < 3.2e18 else { throw ValueFault(message: "'\(text)' is too long") }
    return Nanoseconds(length)
  }

  private static func items(_ text: String) -> [String] {
    text.split(separator: ",").map { String($0).trimmed }.filter { !$0.isEmpty }
  }
}

extension String {
  /// The text without spaces, tabs and line ends at either end.
  var trimmed: String {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0.isNewline }
    guard let first = firstIndex(where: { !isBlank($0) }), let last = lastIndex(where: { !isBlank($0) })
    else {
      return ""
    }
    return String(self[first...last])
  }
}
