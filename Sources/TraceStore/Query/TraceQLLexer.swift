// Cuts a TraceQL query into tokens.

internal import Base

enum TraceQLToken: Equatable {
  /// Operators and brackets.
  case symbol(String)
  /// A bare word: intrinsics, keywords, names of functions.
  case word(String)
  /// An attribute with its scope.
  case attribute(AttributeScope, [UInt8])
  /// One of the parent's.
  case parent(AttributeScope, [UInt8])
  case string([UInt8])
  case int(Int64)
  case double(Double)
  /// Nanoseconds.
  case duration(Int64)
  case end
}

struct TraceQLLexer {
  private let bytes: [UInt8]
  private var index = 0
  /// Offset of the token that was read last.
  private(set) var tokenStart = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  private static let symbols = [
    "&&", "||", "=~", "!~", "!=", ">=", "<=", ">>", "<<", "{", "}", "(", ")", "=", ">", "<", "~", "!", "|",
    ",", "+", "-", "*", "/", "%", "^",
  ]

  mutating func next() throws(TraceQLError) -> TraceQLToken {
    while index < bytes.count, Self.isSpace(bytes[index]) { index += 1 }
    tokenStart = index
    guard index < bytes.count else { return .end }
    let byte = bytes[index]
    if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "`") { return .string(try quoted()) }
    if Self.isDigit(byte) { return try number() }
    for symbol in Self.symbols where bytes[index...].starts(with: symbol.utf8) {
      index += symbol.utf8.count
      return .symbol(symbol)
    }
    if byte == UInt8(ascii: ".") {
      index += 1
      return .attribute(.any, try attributeName())
    }
    guard Self.isNameByte(byte) else { throw fault("unexpected character") }
    return try word()
  }

  func fault(_ message: String) -> TraceQLError { TraceQLError(position: tokenStart, message: message) }

  // MARK: Words

  /// A word, or an attribute with a scope, as `span.http.status_code`.
  private mutating func word() throws(TraceQLError) -> TraceQLToken {
    if takeScope("parent") {
      for scope in [AttributeScope.span, .resource] where takeScope(scope.rawValue) {
        return .parent(scope, try attributeName())
      }
      return .parent(.any, try attributeName())
    }
    for scope in AttributeScope.allCases where scope != .any && takeScope(scope.rawValue) {
      return .attribute(scope, try attributeName())
    }
    let start = index
    while index < bytes.count, Self.isNameByte(bytes[index]) { index += 1 }
    return .word(String(decoding: bytes[start..<index], as: UTF8.self))
  }

  /// Passes `name` and the dot behind it, when they come next.
  private mutating func takeScope(_ name: String) -> Bool {
    let rest = bytes[index...]
    guard rest.starts(with: name.utf8), rest.dropFirst(name.utf8.count).first == UInt8(ascii: ".") else {
      return false
    }
    index += name.utf8.count + 1
    return true
  }

  /// A name up to the next space or operator; parts of it may be quoted (`span."name with spaces"`).
  private mutating func attributeName() throws(TraceQLError) -> [UInt8] {
    var name: [UInt8] = []
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "\"") {
        name += try quoted()
      } else if Self.isNameByte(bytes[index]) {
        name.append(bytes[index])
        index += 1
      } else {
        break
      }
    }
    guard !name.isEmpty else { throw fault("an attribute's name is missing") }
    return name
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  /// Tempo's rule for names: all but white space and what operators are made of.
  private static func isNameByte(_ byte: UInt8) -> Bool {
    if byte <= 0x20 || byte == 0x7f { return false }
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "="),
      UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "&"),
      UInt8(ascii: "|"), UInt8(ascii: "^"), UInt8(ascii: ","), UInt8(ascii: "\""), UInt8(ascii: "`"):
      return false
    default: return true
    }
  }

  /// What a unit is made of, and the numbers between two: letters and `µ`, whose bytes are beyond ASCII.
  private static func isUnitByte(_ byte: UInt8) -> Bool {
    let letter = byte | 0x20
    return byte >= 0x80 || isDigit(byte) || byte == UInt8(ascii: ".")
      || (letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "z"))
  }

  // MARK: Values

  private mutating func quoted() throws(TraceQLError) -> [UInt8] {
    let quote = bytes[index]
    let isRaw = quote == UInt8(ascii: "`")
    index += 1
    var text: [UInt8] = []
    while index < bytes.count {
      let byte = bytes[index]
      index += 1
      if byte == quote { return text }
      guard byte == UInt8(ascii: "\\"), !isRaw else {
        text.append(byte)
        continue
      }
      guard index < bytes.count else { break }
      switch bytes[index] {
      case UInt8(ascii: "n"): text.append(0x0a)
      case UInt8(ascii: "r"): text.append(0x0d)
      case UInt8(ascii: "t"): text.append(0x09)
      case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "`"):
        text.append(bytes[index])
      default: throw fault("an unknown escape in a string; regular expressions read best in backquotes")
      }
      index += 1
    }
    throw fault("a string is not closed")
  }

  /// A number or a length of time, without a sign: whether one is meant, the parser knows.
  private mutating func number() throws(TraceQLError) -> TraceQLToken {
    let start = index
    func isDigit(at place: Int) -> Bool { place < bytes.count && Self.isDigit(bytes[place]) }
    while index < bytes.count, Self.isDigit(bytes[index]) || bytes[index] == UInt8(ascii: ".") { index += 1 }
    let unitStart = index
    // The sign of an exponent (`1e-3`).
    if index + 1 < bytes.count, bytes[index] | 0x20 == UInt8(ascii: "e"),
      bytes[index + 1] == UInt8(ascii: "-") || bytes[index + 1] == UInt8(ascii: "+"), isDigit(at: index + 2)
    {
      index += 2
    }
    while index < bytes.count, Self.isUnitByte(bytes[index]) { index += 1 }
    let digits = String(decoding: bytes[start..<unitStart], as: UTF8.self)
    if unitStart == index {
      if let value = Int64(digits) { return .int(value) }
      guard let value = Double(digits) else { throw fault("no number: \(digits)") }
      return .double(value)
    }
    let whole = String(decoding: bytes[start..<index], as: UTF8.self)
    if let value = Double(whole), value.isFinite { return .double(value) }
    guard let length = Self.duration(bytes[start..<index]) else {
      throw fault("no number or duration: \(whole)")
    }
    return .duration(length)
  }

  /// A length of time as Go writes it, as `1h30m`, `2.5ms`; nil for anything else, and past 290 years.
  static func duration(_ text: ArraySlice<UInt8>) -> Int64? {
    var rest = text
    let isNegative = rest.first == UInt8(ascii: "-")
    if isNegative { rest.removeFirst() }
    var total = 0.0
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { isDigit($0) || $0 == UInt8(ascii: ".") }
      rest = rest.dropFirst(digits.count)
      let unit = rest.prefix { !isDigit($0) && $0 != UInt8(ascii: ".") }
      rest = rest.dropFirst(unit.count)
      guard let value = Double(String(decoding: digits, as: UTF8.self)),
        let scale = scale(String(decoding: unit, as: UTF8.self))
      else { return nil }
      total += value * scale
    }
    guard total < 9.2e18 else { return nil }
    return Int64((isNegative ? -total : total).rounded())
  }

  private static func scale(_ unit: String) -> Double? {
    switch unit {
    case "ns": 1
    case "us", "µs", "μs": 1e3
    case "ms": 1e6
    case "s": 1e9
    case "m": 60e9
    case "h": 3600e9
    default: nil
    }
  }
}
