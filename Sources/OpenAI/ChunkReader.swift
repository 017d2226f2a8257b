// Reads one chunk of a stream in full.

internal import Base
internal import JSON

/// What one pass over a chunk found.
struct ChunkReader {
  private let data: UnsafeRawBufferPointer
  private var scanner: JSONScanner

  /// Contents of the first text that is not empty: `content`, `text`, `reasoning_content`, `reasoning` or `refusal`.
  private(set) var text: Range<Int>?

  /// True when a choice carries a tool or function call.
  private(set) var hasOtherToken = false

  private(set) var usage: Usage?
  private(set) var finishReason: CompletionFinish?
  private(set) var isError = false

  /// Number of choices; nil without a list of them.
  private(set) var choices: Int?

  init(_ data: UnsafeRawBufferPointer) {
    self.data = data
    scanner = JSONScanner(data)
  }

  mutating func read() throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 5 where key.equals("usage", in: data):
        usage = try Usage.read(&scanner, in: data)
      case 5 where key.equals("error", in: data):
        if case .null = try scanner.kind() {} else { isError = true }
        try scanner.skipValue()
      case 6 where key.equals("object", in: data):
        // Some engines send the error's fields bare, marked by the object's name alone.
        if data.slice(try scanner.skipValue()).equals("\"error\"") { isError = true }
      case 7 where key.equals("choices", in: data):
        try readChoices()
      default:
        try scanner.skipValue()
      }
    }
    try scanner.finish()
  }

  private mutating func readChoices() throws(JSONError) {
    guard try scanner.arrayOrSkip() else { return }
    var count = 0
    while try scanner.nextElement() {
      count += 1
      guard try scanner.objectOrSkip() else { continue }
      try readChoice()
    }
    choices = count
  }

  /// Reads a choice whose brace has been passed.
  private mutating func readChoice() throws(JSONError) {
    while let key = try scanner.nextKey() {
      switch key.count {
      case 4 where key.equals("text", in: data):
        try readText()
      case 5 where key.equals("delta", in: data):
        try readDelta()
      case 13 where key.equals("finish_reason", in: data):
        let reason = try CompletionFinish.read(&scanner, in: data)
        if case .none = reason {} else { finishReason = reason }
      default:
        try scanner.skipValue()
      }
    }
  }

  private mutating func readDelta() throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 7 where key.equals("content", in: data) || key.equals("refusal", in: data),
        9 where key.equals("reasoning", in: data),
        17 where key.equals("reasoning_content", in: data):
        try readText()
      case 10 where key.equals("tool_calls", in: data):
        try readToolCalls()
      case 13 where key.equals("function_call", in: data):
        if case .object = try scanner.kind() { hasOtherToken = true }
        try scanner.skipValue()
      default:
        try scanner.skipValue()
      }
    }
  }

  private mutating func readText() throws(JSONError) {
    guard let contents = try scanner.stringOrSkip() else { return }
    if text == nil, contents.count > 0 { text = contents.range }
  }

  private mutating func readToolCalls() throws(JSONError) {
    guard try scanner.arrayOrSkip() else { return }
    while try scanner.nextElement() {
      hasOtherToken = true
      try scanner.skipValue()
    }
  }
}
