// What the frontend reads from an answer that came whole.

internal import Base
internal import JSON

/// Usage, finish reason and kind of a JSON answer that was not streamed.
package struct AnswerSummary: Sendable, Equatable {
  /// The top-level `usage`, if it is there and complete.
  package private(set) var usage: Usage?

  /// `finish_reason` of the first choice.
  package private(set) var finishReason = CompletionFinish.none

  /// Number of `choices`.
  package private(set) var choices = 0

  /// True when a top-level `error` is neither absent nor null.
  package private(set) var isError = false

  /// Reads an answer; nil when it is not a JSON object.
  package static func parse(_ body: UnsafeRawBufferPointer) -> AnswerSummary? {
    var summary = AnswerSummary()
    do throws(JSONError) {
      return try summary.read(body) ? summary : nil
    } catch {
      return nil
    }
  }

  private mutating func read(_ body: UnsafeRawBufferPointer) throws(JSONError) -> Bool {
    var scanner = JSONScanner(body)
    guard try scanner.objectOrSkip() else { return false }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 5 where key.equals("usage", in: body):
        usage = try Usage.read(&scanner, in: body)
      case 5 where key.equals("error", in: body):
        if case .null = try scanner.kind() {} else { isError = true }
        try scanner.skipValue()
      case 7 where key.equals("choices", in: body):
        try readChoices(&scanner, in: body)
      default:
        try scanner.skipValue()
      }
    }
    try scanner.finish()
    return true
  }

  private mutating func readChoices(
    _ scanner: inout JSONScanner, in body: UnsafeRawBufferPointer
  ) throws(JSONError) {
    guard try scanner.arrayOrSkip() else { return }
    choices = 0
    while try scanner.nextElement() {
      choices += 1
      guard choices == 1 else {
        try scanner.skipValue()
        continue
      }
      guard try scanner.objectOrSkip() else { continue }
      while let key = try scanner.nextKey() {
        if key.equals("finish_reason", in: body) {
          finishReason = try CompletionFinish.read(&scanner, in: body)
        } else {
          try scanner.skipValue()
        }
      }
    }
  }
}
