// Reads one typed event of a stream in full: of OpenAI's Responses API or of Anthropic's Messages API.

internal import Base
internal import JSON

/// What one pass over an event found.
struct TypedEventReader {
  private let data: UnsafeRawBufferPointer
  private let form: AnswerForm
  private var scanner: JSONScanner
  private var type: Range<Int>?

  /// Contents of a text in `delta` that is not empty.
  private(set) var text: Range<Int>?
  private(set) var counts = UsageCounts()
  private(set) var finishReason: CompletionFinish?
  /// The response that the event tells of.
  private(set) var response = ResponseFields()
  /// `sequence_number`.
  private(set) var sequence: Int?

  init(_ data: UnsafeRawBufferPointer, form: AnswerForm) {
    self.data = data
    self.form = form
    scanner = JSONScanner(data)
  }

  /// What the event is, by its type.
  var kind: ChunkKind {
    guard let type else { return .other }
    let word = data.slice(type)
    if word.equals("error") { return .error }
    if case .messages = form {
      if word.equals("message_stop") { return .done }
      return word.equals("content_block_delta") && text != nil ? .token : .other
    }
    switch word.count {
    case 15 where word.equals("response.failed"): return .error
    case 18 where word.equals("response.completed"): return .done
    case 19 where word.equals("response.incomplete"): return .done
    default:
      return text != nil && word.count > 6 && word.suffix(6).elementsEqual(Self.deltaSuffix) ? .token : .other
    }
  }

  private static let deltaSuffix = Array(".delta".utf8)

  mutating func read() throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 4 where key.equals("type", in: data):
        type = try scanner.stringOrSkip()?.range
      case 5 where key.equals("delta", in: data):
        try readDelta()
      case 5 where key.equals("usage", in: data):
        counts = try UsageCounts.read(&scanner, in: data)
      case 7 where key.equals("message", in: data):
        try readMessage()
      case 8 where key.equals("response", in: data):
        if try scanner.objectOrSkip() { try response.readMembers(&scanner, in: data) }
      case 15 where key.equals("sequence_number", in: data):
        if case .number = try scanner.kind() {
          sequence = try scanner.number().integer
        } else {
          try scanner.skipValue()
        }
      default:
        try scanner.skipValue()
      }
    }
    try scanner.finish()
  }

  /// `delta` is a text (Responses), or an object with one (Messages).
  private mutating func readDelta() throws(JSONError) {
    if case .string = try scanner.kind() {
      take(try scanner.string())
      return
    }
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 4 where key.equals("text", in: data), 8 where key.equals("thinking", in: data),
        12 where key.equals("partial_json", in: data):
        if let contents = try scanner.stringOrSkip() { take(contents) }
      case 11 where key.equals("stop_reason", in: data):
        if let word = try scanner.stringOrSkip() {
          finishReason = CompletionFinish(anthropic: data.slice(word.range))
        }
      default:
        try scanner.skipValue()
      }
    }
  }

  private mutating func take(_ contents: JSONString) {
    if text == nil, contents.count > 0 { text = contents.range }
  }

  /// The message of `message_start`, of which only the usage is of interest. An error's `message` is a text.
  private mutating func readMessage() throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      if key.equals("usage", in: data) {
        counts = try UsageCounts.read(&scanner, in: data)
      } else {
        try scanner.skipValue()
      }
    }
  }
}
