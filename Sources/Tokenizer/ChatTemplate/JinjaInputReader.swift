// JSON text as values of templates.

internal import Base
internal import JSON

/// Reads JSON as Python's `json.loads` does: keys keep their order, of a key that comes twice the last value counts.
/// Strings without escapes are not copied, so the text must outlive the values.
struct JinjaInputReader: ~Copyable {
  private let bytes: UnsafeRawBufferPointer
  private let arena: JinjaArena
  /// What is read, for messages.
  private let what: StaticString
  private var scanner: JSONScanner
  private var decoded = ByteBuffer()

  private init(_ bytes: UnsafeRawBufferPointer, _ what: StaticString, _ arena: JinjaArena) {
    self.bytes = bytes
    self.what = what
    self.arena = arena
    scanner = JSONScanner(bytes)
  }

  /// The one value that fills `bytes`; an error has the reason `.input` and names `what` was read.
  static func read(
    _ bytes: UnsafeRawBufferPointer, _ what: StaticString, arena: JinjaArena
  ) throws(ChatTemplateError) -> JinjaValue {
    var reader = JinjaInputReader(bytes, what, arena)
    let value = try reader.value()
    try reader.scan { (scanner) throws(JSONError) in try scanner.finish() }
    return value
  }

  /// One step of the scanner, its error made ours.
  private mutating func scan<Result>(
    _ step: (inout JSONScanner) throws(JSONError) -> Result
  ) throws(ChatTemplateError) -> Result {
    do throws(JSONError) {
      return try step(&scanner)
    } catch {
      throw ChatTemplateError(.input, "\(what) is no valid JSON: \(error.explanation)")
    }
  }

  private mutating func value() throws(ChatTemplateError) -> JinjaValue {
    switch try scan({ (scanner) throws(JSONError) in try scanner.kind() }) {
    case .object: return try object()
    case .array: return try array()
    case .string: return .string(try text(try scan { (scanner) throws(JSONError) in try scanner.string() }))
    case .number: return try number()
    case .true:
      try scan { (scanner) throws(JSONError) in try scanner.literal() }
      return .bool(true)
    case .false:
      try scan { (scanner) throws(JSONError) in try scanner.literal() }
      return .bool(false)
    case .null:
      try scan { (scanner) throws(JSONError) in try scanner.literal() }
      return .none
    }
  }

  private mutating func object() throws(ChatTemplateError) -> JinjaValue {
    let dict = JinjaDict()
    try scan { (scanner) throws(JSONError) in try scanner.openObject() }
    while let key = try scan({ (scanner) throws(JSONError) in try scanner.nextKey() }) {
      let name = try text(key)
      dict.set(.string(name), try value())
      try arena.charge(48)
    }
    try arena.charge(64)
    return .dict(dict)
  }

  private mutating func array() throws(ChatTemplateError) -> JinjaValue {
    var items: [JinjaValue] = []
    try scan { (scanner) throws(JSONError) in try scanner.openArray() }
    while try scan({ (scanner) throws(JSONError) in try scanner.nextElement() }) {
      items.append(try value())
      try arena.charge(24)
    }
    try arena.charge(48)
    return .list(JinjaList(items))
  }

  private mutating func text(_ string: JSONString) throws(ChatTemplateError) -> JinjaText {
    let contents = bytes.slice(string.range)
    guard string.hasEscapes else {
      guard let base = contents.bindMemory(to: UInt8.self).baseAddress else { return .empty }
      return JinjaText(base, contents.count)
    }
    decoded.removeAll()
    decoded.append(decoding: contents)
    return try arena.copy(decoded.readable)
  }

  private mutating func number() throws(ChatTemplateError) -> JinjaValue {
    let number = try scan { (scanner) throws(JSONError) in try scanner.number() }
    if let integer = number.integer { return .int(integer) }
    let digits = bytes.slice(number.range)
    if number.isInteger { return .bigInteger(try arena.copy(digits)) }
    return .double(Double(digits.text) ?? .infinity)
  }
}
