// What is read of a `response` object of the Responses API, whether it comes whole or in an event.

internal import Base
internal import JSON

/// Id, usage and state of a response.
struct ResponseFields {
  /// The contents of `id`.
  var id: Range<Int>?
  var usage: Usage?
  var finish = CompletionFinish.none
  var isError = false

  /// Longest id that is kept.
  static let idBytesMax = 256

  /// Reads the object that `scanner`'s brace has just opened.
  mutating func readMembers(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) {
    var reason = CompletionFinish.none
    while let key = try scanner.nextKey() {
      switch key.count {
      case 2 where key.equals("id", in: bytes):
        if let text = try scanner.stringOrSkip(), !text.hasEscapes, text.count <= Self.idBytesMax {
          id = text.range
        }
      case 5 where key.equals("usage", in: bytes): usage = try Usage.read(&scanner, in: bytes)
      case 5 where key.equals("error", in: bytes):
        if case .null = try scanner.kind() {} else { isError = true }
        try scanner.skipValue()
      case 6 where key.equals("status", in: bytes):
        if let word = try scanner.stringOrSkip() {
          finish = CompletionFinish(responseStatus: bytes.slice(word.range))
        }
      case 18 where key.equals("incomplete_details", in: bytes):
        reason = try Self.reason(&scanner, in: bytes)
      default: try scanner.skipValue()
      }
    }
    if case .length = finish, case .contentFilter = reason { finish = reason }
  }

  /// Why a response is incomplete.
  private static func reason(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> CompletionFinish {
    guard try scanner.objectOrSkip() else { return .none }
    var reason = CompletionFinish.none
    while let key = try scanner.nextKey() {
      if key.equals("reason", in: bytes), let word = try scanner.stringOrSkip() {
        reason = CompletionFinish(bytes.slice(word.range))
      } else if !key.equals("reason", in: bytes) {
        try scanner.skipValue()
      }
    }
    return reason
  }
}
