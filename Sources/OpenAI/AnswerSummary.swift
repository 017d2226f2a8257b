// What the frontend reads from an answer that came whole.

internal import Base
internal import CBytes
internal import JSON

/// Usage, finish reason and kind of a JSON answer that was not streamed.
package struct AnswerSummary: Sendable, Equatable {
  /// The top-level `usage`, if it is there and complete.
  package private(set) var usage: Usage?

  /// `finish_reason` of the first choice.
  package private(set) var finishReason = CompletionFinish.none

  /// Number of `choices`.
  package private(set) var choices = 0

  /// `id` of a response, in its bytes; empty for other answers.
  package private(set) var responseID: [UInt8] = []

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

  /// What a whole answer of that form tells: usage, and why it ended where it says so.
  package static func read(_ body: UnsafeRawBufferPointer, form: AnswerForm) -> AnswerSummary? {
    if case .chat = form { return glance(body) }
    if case .plain = form { return glancePlain(body) }
    var summary = AnswerSummary()
    do throws(JSONError) {
      var scanner = JSONScanner(body)
      guard try scanner.objectOrSkip() else { return nil }
      switch form {
      case .chat, .plain: break
      case .responses:
        var response = ResponseFields()
        try response.readMembers(&scanner, in: body)
        summary.usage = response.usage
        summary.finishReason = response.finish
        summary.isError = response.isError
        if let id = response.id { summary.responseID = Array(body.slice(id)) }
      case .messages: try summary.readMessage(&scanner, in: body)
      }
      try scanner.finish()
      return summary
    } catch {
      return nil
    }
  }

  private mutating func readMessage(
    _ scanner: inout JSONScanner, in body: UnsafeRawBufferPointer
  ) throws(JSONError) {
    while let key = try scanner.nextKey() {
      switch key.count {
      case 5 where key.equals("usage", in: body): usage = try Usage.read(&scanner, in: body)
      case 11 where key.equals("stop_reason", in: body):
        if let word = try scanner.stringOrSkip() {
          finishReason = CompletionFinish(anthropic: body.slice(word.range))
        }
      default: try scanner.skipValue()
      }
    }
  }

  /// Of embeddings and scores: prompt tokens, and no output. The long vectors before them are not read, unless the key
  /// comes more than once.
  private static func glancePlain(_ body: UnsafeRawBufferPointer) -> AnswerSummary? {
    let usageKey = KeySearch("\"usage\"", in: body)
    var summary = AnswerSummary()
    do throws(JSONError) {
      if usageKey.isRepeated {
        var scanner = JSONScanner(body)
        guard try scanner.objectOrSkip() else { return nil }
        try summary.readPlain(&scanner, in: body)
      } else {
        guard let value = usageKey.value else { return nil }
        var scanner = JSONScanner(value)
        summary.takePlain(try UsageCounts.read(&scanner, in: value))
      }
      return summary
    } catch {
      return nil
    }
  }

  private mutating func takePlain(_ counts: UsageCounts) {
    usage = counts.prompt.map { Usage(promptTokens: $0, completionTokens: 0) }
  }

  private mutating func readPlain(
    _ scanner: inout JSONScanner, in body: UnsafeRawBufferPointer
  ) throws(JSONError) {
    while let key = try scanner.nextKey() {
      guard key.equals("usage", in: body) else {
        try scanner.skipValue()
        continue
      }
      takePlain(try UsageCounts.read(&scanner, in: body))
    }
  }

  /// Finds usage and finish reason in a whole answer without reading the rest of it, which may be long.
  ///
  /// The bytes of a key cannot stand inside a string, where their quotes would be escaped. An answer that has one of
  /// the two keys more than once, as one with several choices does, is read in full.
  package static func glance(_ body: UnsafeRawBufferPointer) -> AnswerSummary? {
    let usageKey = KeySearch("\"usage\"", in: body)
    let reasonKey = KeySearch("\"finish_reason\"", in: body)
    guard !usageKey.isRepeated, !reasonKey.isRepeated else { return parse(body) }
    var summary = AnswerSummary()
    do throws(JSONError) {
      if let value = usageKey.value {
        var scanner = JSONScanner(value)
        summary.usage = try Usage.read(&scanner, in: value)
      }
      if let value = reasonKey.value {
        var scanner = JSONScanner(value)
        summary.finishReason = try CompletionFinish.read(&scanner, in: value)
      }
    } catch {
      return nil
    }
    return summary
  }

  /// True when an answer has a top-level `nvext`, or cannot be read where that word is a key somewhere in it.
  package static func hasExtension(_ body: UnsafeRawBufferPointer) -> Bool {
    guard KeySearch("\"nvext\"", in: body).value != nil else { return false }
    var scanner = JSONScanner(body)
    do throws(JSONError) {
      guard try scanner.objectOrSkip() else { return false }
      while let key = try scanner.nextKey() {
        if key.equals("nvext", in: body) { return true }
        try scanner.skipValue()
      }
      return false
    } catch {
      return true
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

/// A key that is looked for by its bytes.
private struct KeySearch {
  /// From the value of the first such key to the end of the answer; nil when there is none.
  private(set) var value: UnsafeRawBufferPointer?
  /// True when there is another.
  private(set) var isRepeated = false

  init(_ key: StaticString, in body: UnsafeRawBufferPointer) {
    var rest = body
    while let start = rest.baseAddress {
      let begin = cbytes_find_text(
        start.assumingMemoryBound(to: UInt8.self), rest.count, key.utf8Start, key.utf8CodeUnitCount)
      guard begin < rest.count else { return }
      var position = begin + key.utf8CodeUnitCount
      while position < rest.count, rest[position] <= 0x20 { position += 1 }
      // A string that is a value has no colon behind it; an escaped quote begins no key.
      let isKey =
        position < rest.count && rest[position] == UInt8(ascii: ":")
        && (begin == 0 || rest[begin - 1] != UInt8(ascii: "\\"))
      rest = rest.slice(min(position + 1, rest.count)..<rest.count)
      guard isKey else { continue }
      if value != nil {
        isRepeated = true
        return
      }
      value = rest
    }
  }
}
