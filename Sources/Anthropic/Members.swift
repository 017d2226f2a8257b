// Objects and lists inside a body, as slices of its bytes: what is passed on is copied as it was written.

internal import Base
internal import JSON
internal import OpenAI

/// A value of the body that is being translated.
struct RawValue {
  let kind: JSONKind
  /// The value as it stands in the body, a string with its quotes.
  let bytes: UnsafeRawBufferPointer

  /// The contents of a string, still escaped; nil for other kinds.
  var contents: UnsafeRawBufferPointer? {
    guard case .string = kind else { return nil }
    return bytes.slice(1..<(bytes.count - 1))
  }

  /// The contents of a string, decoded; nil for other kinds.
  var text: String? {
    contents.map { JSONString(range: 0..<$0.count, hasEscapes: true).decoded(in: $0) }
  }

  /// True when it is a string that spells `word`.
  func spells(_ word: StaticString) -> Bool {
    contents.map { JSONString(range: 0..<$0.count, hasEscapes: true).equals(word, in: $0) } ?? false
  }

  var isTrue: Bool {
    if case .true = kind { return true }
    return false
  }

  /// The members of an object; nil for other kinds.
  func members() throws(APIError) -> Members? {
    guard case .object = kind else { return nil }
    let members: Members
    do throws(JSONError) {
      var scanner = JSONScanner(bytes)
      members = try Members.read(&scanner, in: bytes)
    } catch {
      throw .invalidJSON(error)
    }
    if members.isCut { throw Members.tooMany }
    return members
  }

  /// Most elements of a list: each takes many times the bytes of a `0,`. As many messages does Anthropic take.
  static let elementsMax = 100_000

  /// The elements of an array; nil for other kinds. Throws a 400 that names `place` when there are more than `max`.
  func elements(
    of place: @autoclosure () -> String = "body", max: Int = RawValue.elementsMax
  ) throws(APIError) -> [RawValue]? {
    guard case .array = kind else { return nil }
    var isCut = false
    let elements = try elements(max: max, &isCut)
    if isCut { throw .invalidValue(place(), reason: "it has more than \(max) elements") }
    return elements
  }

  private func elements(max: Int, _ isCut: inout Bool) throws(APIError) -> [RawValue] {
    do throws(JSONError) {
      var scanner = JSONScanner(bytes)
      var elements: [RawValue] = []
      try scanner.openArray()
      while try scanner.nextElement() {
        if elements.count == max {
          isCut = true
          return elements
        }
        let kind = try scanner.kind()
        elements.append(RawValue(kind: kind, bytes: bytes.slice(try scanner.skipValue())))
      }
      return elements
    } catch {
      throw .invalidJSON(error)
    }
  }
}

/// The members of one object. A null counts as absent; of a key that comes twice the last one counts.
struct Members {
  private let bytes: UnsafeRawBufferPointer
  private var list: [(key: JSONString, value: RawValue)] = []
  /// There were more than are taken.
  fileprivate private(set) var isCut = false

  /// Most members of an object that are looked at.
  static let countMax = 10_000

  fileprivate static let tooMany = APIError.invalidValue(
    "body", reason: "an object in it has more than \(countMax) members")

  /// Reads the object that is next in `scanner`.
  static func read(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> Members {
    var members = Members(bytes: bytes)
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      let kind = try scanner.kind()
      let range = try scanner.skipValue()
      if case .null = kind { continue }
      guard members.list.count < countMax else {
        members.isCut = true
        continue
      }
      members.list.append((key, RawValue(kind: kind, bytes: bytes.slice(range))))
    }
    return members
  }

  /// Reads a whole text. Throws a 400 when it is no JSON, or no object.
  static func read(whole bytes: UnsafeRawBufferPointer) throws(APIError) -> Members {
    var members: Members?
    do throws(JSONError) {
      var scanner = JSONScanner(bytes)
      if case .object = try scanner.kind() {
        members = try read(&scanner, in: bytes)
      } else {
        try scanner.skipValue()
      }
      try scanner.finish()
    } catch {
      throw .invalidJSON(error)
    }
    guard let members else { throw .bodyIsNotAnObject }
    if members.isCut { throw tooMany }
    return members
  }

  private init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  subscript(_ name: StaticString) -> RawValue? { list.last { $0.key.equals(name, in: bytes) }?.value }

  /// How often a key comes.
  func count(_ name: StaticString) -> Int { list.count { $0.key.equals(name, in: bytes) } }
}

extension ByteBuffer {
  /// Appends a value of a body, without white space outside strings.
  mutating func append(_ value: RawValue) { append(minified: value.bytes) }
}
