// A small tree of JSON values for cold paths: records, configuration, answers to control requests.

internal import Base

/// A JSON value in memory. Keys keep their order; a key that comes twice is there twice.
package indirect enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(String)
  case array([JSONValue])
  case object([Member])

  /// A key of an object with its value.
  package struct Member: Sendable, Equatable {
    package let key: String
    package let value: JSONValue

    package init(key: String, value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// Reads one value that fills `bytes` but for white space around it.
  ///
  /// At most `valuesMax` values are made, so that a hostile answer cannot take memory without bound; beyond it the
  /// error is `.tooManyValues`.
  package static func parse(
    _ bytes: UnsafeRawBufferPointer, valuesMax: Int = 65_536
  ) throws(JSONError) -> JSONValue {
    var reader = JSONValueReader(scanner: JSONScanner(bytes), bytes: bytes, valuesLeft: valuesMax)
    let value = try reader.value()
    try reader.scanner.finish()
    return value
  }

  /// The value of the last member named `key`; nil for other kinds of values and unknown keys.
  package subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.key == key }?.value
  }

  /// The text of a string; nil for other kinds.
  package var string: String? {
    if case .string(let text) = self { return text }
    return nil
  }

  /// The value of a whole number; nil for other kinds.
  package var integer: Int? {
    if case .integer(let number) = self { return number }
    return nil
  }

  /// The value of any number; nil for other kinds.
  package var double: Double? {
    switch self {
    case .integer(let number): Double(number)
    case .double(let number): number
    default: nil
    }
  }

  /// The value of `true` or `false`; nil for other kinds.
  package var bool: Bool? {
    if case .bool(let flag) = self { return flag }
    return nil
  }

  /// The elements of an array; nil for other kinds.
  package var array: [JSONValue]? {
    if case .array(let elements) = self { return elements }
    return nil
  }

  /// The members of an object; nil for other kinds.
  package var members: [Member]? {
    if case .object(let members) = self { return members }
    return nil
  }

  /// True for `null`.
  package var isNull: Bool {
    if case .null = self { return true }
    return false
  }
}

/// Builds the tree; recursion is bounded by the scanner's depth limit.
private struct JSONValueReader {
  var scanner: JSONScanner
  let bytes: UnsafeRawBufferPointer
  var valuesLeft: Int

  mutating func value() throws(JSONError) -> JSONValue {
    guard valuesLeft > 0 else { throw JSONError(.tooManyValues, at: scanner.offset) }
    valuesLeft -= 1
    switch try scanner.kind() {
    case .object:
      var members: [JSONValue.Member] = []
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        members.append(JSONValue.Member(key: key.decoded(in: bytes), value: try value()))
      }
      return .object(members)
    case .array:
      var elements: [JSONValue] = []
      try scanner.openArray()
      while try scanner.nextElement() { elements.append(try value()) }
      return .array(elements)
    case .string:
      return .string(try scanner.string().decoded(in: bytes))
    case .number:
      let number = try scanner.number()
      if let integer = number.integer { return .integer(integer) }
      return .double(Double(bytes.slice(number.range).text) ?? .infinity)
    case .true:
      try scanner.literal()
      return .bool(true)
    case .false:
      try scanner.literal()
      return .bool(false)
    case .null:
      try scanner.literal()
      return .null
    }
  }
}
