// One pass over a request body: validates JSON, picks out the fields the frontend depends on.

internal import Base
internal import JSON

extension InferenceRequest {
  /// Reads a request body.
  ///
  /// Throws a 400 with `invalid_json` when the text is not JSON, else for the first field at fault `invalid_type`,
  /// `invalid_value` or `missing_required_parameter`. Unknown fields are the engine's business.
  package static func parse(
    _ body: UnsafeRawBufferPointer, endpoint: Endpoint
  ) throws(APIError) -> InferenceRequest {
    var parser = RequestParser(body, endpoint: endpoint)
    do throws(JSONError) {
      try parser.readBody()
    } catch {
      throw APIError.invalidJSON(error)
    }
    parser.checkWhole()
    if let fault = parser.fault { throw fault }
    if let range = parser.extensions {
      parser.request.extensions = RequestExtensions(try RequestHints.read(body, range))
    }
    return parser.request
  }

  /// What can be read of a body that ``parse(_:endpoint:)`` refused, so that it counts as the model's that it names; nil
  /// when it names none, or is no JSON.
  package static func refused(_ body: UnsafeRawBufferPointer, endpoint: Endpoint) -> InferenceRequest? {
    var parser = RequestParser(body, endpoint: endpoint)
    do throws(JSONError) {
      try parser.readBody()
    } catch {
      return nil
    }
    return parser.request.model.isEmpty ? nil : parser.request
  }
}

/// What `stream_options` said.
enum StreamOptions {
  case absent
  case null(Range<Int>)
  /// Without a usable `include_usage`: where a member may be inserted, and whether others follow it.
  case object(insertAt: Int, isEmpty: Bool)
  /// `include_usage` is false or null, at this range.
  case refused(Range<Int>)
  case asked
}

/// The pass itself. A syntax error is thrown; the first fault of a field is kept and the scan goes on, so that a
/// body that is no JSON at all is called that whatever its fields say.
struct RequestParser {
  let body: UnsafeRawBufferPointer
  var scanner: JSONScanner
  var request: InferenceRequest
  var fault: APIError?
  /// The value of `nvext`, unread.
  fileprivate var extensions: Range<Int>?
  private var seen: UInt32 = 0
  private var options = StreamOptions.absent
  private var maxTokens: Int?
  private var maxCompletionTokens: Int?

  init(_ body: UnsafeRawBufferPointer, endpoint: Endpoint) {
    self.body = body
    scanner = JSONScanner(body)
    request = InferenceRequest(endpoint: endpoint, model: 0..<0, modelHasEscapes: false)
  }

  mutating func note(_ error: @autoclosure () -> APIError) {
    if fault == nil { fault = error() }
  }

  mutating func readBody() throws(JSONError) {
    guard try scanner.objectOrSkip() else {
      note(.bodyIsNotAnObject)
      return try scanner.finish()
    }
    while let text = try scanner.nextKey() {
      guard let key = RequestKey.recognise(text, in: body, endpoint: request.endpoint) else {
        try scanner.skipValue()
        continue
      }
      if seen & key.rawValue != 0 { note(.duplicateKey("\(key.name)")) }
      seen |= key.rawValue
      try read(key)
    }
    request.closingBrace = scanner.offset - 1
    try scanner.finish()
  }

  private mutating func read(_ key: RequestKey) throws(JSONError) {
    switch key {
    case .model: try readModel()
    case .messages: try readMessages()
    case .prompt: try readPrompt("prompt")
    case .input:
      if case .responses = request.endpoint { try readInput() } else { try readPrompt("input") }
    case .instructions: try readInstructions()
    case .documents: request.prompt = try scanner.skipValue()
    case .previousResponse: request.previousResponse = try scanner.stringOrSkip()?.range
    case .stream: request.stream = try readFlag("stream")
    case .streamOptions: try readStreamOptions()
    case .choices: request.choices = try readCount("n") ?? 1
    case .maxTokens: maxTokens = try readCount("max_tokens")
    case .maxOutputTokens: maxTokens = try readCount("max_output_tokens")
    case .maxCompletionTokens: maxCompletionTokens = try readCount("max_completion_tokens")
    case .tools: try readTools()
    case .cacheSalt:
      if case .string = try scanner.kind() {
        let salt = try scanner.string().range
        request.cacheSalt = salt
        request.cacheSaltValue = salt.lowerBound - 1..<salt.upperBound + 1
      } else {
        request.cacheSaltValue = try scanner.skipValue()
      }
      // Engines repeat it in their cache events, whose size is bounded.
      if let salt = request.cacheSalt, salt.count > InferenceRequest.saltBytesMax {
        note(.invalidValue("cache_salt", reason: "it is longer than \(InferenceRequest.saltBytesMax) bytes"))
      }
    case .extensions:
      if case .null = try scanner.kind() { return try scanner.literal() }
      extensions = try scanner.skipValue()
    }
  }

  /// What can only be judged when the whole body is known.
  mutating func checkWhole() {
    if fault != nil { return }
    if seen & RequestKey.model.rawValue == 0 { note(.missing("model")) }
    switch request.endpoint {
    case .chatCompletions, .messages, .countTokens:
      if request.messages == nil { note(.missing("messages")) }
    case .completions: if request.prompt == nil { note(.missing("prompt")) }
    // Engines embed chats too.
    case .embeddings: if request.prompt == nil, request.messages == nil { note(.missing("input")) }
    // What of these is needed is the engine's business.
    case .responses, .rerank, .score: break
    }
    request.maxTokens = maxCompletionTokens ?? maxTokens
    guard case .chat = request.endpoint.form else { return }
    guard request.stream else {
      switch options {
      case .absent, .null: break
      default:
        note(.invalidValue("stream_options", reason: "it is only allowed when 'stream' is true"))
      }
      return
    }
    switch options {
    case .asked:
      request.includeUsage = true
    case .absent:
      request.usageEdit = BodyEdit(
        range: request.closingBrace..<request.closingBrace,
        replacement: ",\"stream_options\":{\"include_usage\":true}")
    case .null(let range):
      request.usageEdit = BodyEdit(range: range, replacement: "{\"include_usage\":true}")
    case .object(let position, let isEmpty):
      request.usageEdit = BodyEdit(
        range: position..<position,
        replacement: isEmpty ? "\"include_usage\":true" : "\"include_usage\":true,")
    case .refused(let range):
      request.usageEdit = BodyEdit(range: range, replacement: "true")
    }
  }

  // MARK: Fields

  private mutating func readModel() throws(JSONError) {
    guard let name = try scanner.stringOrSkip() else {
      return note(.invalidType("model", expected: "a string"))
    }
    if name.range.isEmpty { note(.invalidValue("model", reason: "it must not be empty")) }
    request.model = name.range
    request.modelHasEscapes = name.hasEscapes
  }

  private mutating func readFlag(_ param: StaticString) throws(JSONError) -> Bool {
    switch try scanner.kind() {
    case .true:
      try scanner.literal()
      return true
    case .false, .null:
      try scanner.literal()
    default:
      note(.invalidType("\(param)", expected: "a boolean"))
      try scanner.skipValue()
    }
    return false
  }

  private mutating func readCount(_ param: StaticString) throws(JSONError) -> Int? {
    switch try scanner.kind() {
    case .null:
      try scanner.literal()
      return nil
    case .number:
      let number = try scanner.number()
      guard number.isInteger else {
        note(.invalidType("\(param)", expected: "an integer"))
        return nil
      }
      guard let count = number.integer, count >= 1 else {
        let isNegative = body[number.range.lowerBound] == UInt8(ascii: "-")
        let isLarge = number.integer == nil && !isNegative
        note(.invalidValue("\(param)", reason: isLarge ? "it is too large" : "it must be at least 1"))
        return nil
      }
      return count
    default:
      note(.invalidType("\(param)", expected: "an integer"))
      try scanner.skipValue()
      return nil
    }
  }

  private mutating func readStreamOptions() throws(JSONError) {
    switch try scanner.kind() {
    case .null:
      options = .null(try scanner.skipValue())
      return
    case .object:
      break
    default:
      note(.invalidType("stream_options", expected: "an object or null"))
      try scanner.skipValue()
      return
    }
    try scanner.openObject()
    let insertAt = scanner.offset
    var isEmpty = true
    var isSeen = false
    options = .absent
    while let key = try scanner.nextKey() {
      isEmpty = false
      guard key.equals("include_usage", in: body) else {
        try scanner.skipValue()
        continue
      }
      if isSeen { note(.duplicateKey("stream_options.include_usage")) }
      isSeen = true
      switch try scanner.kind() {
      case .true:
        try scanner.literal()
        options = .asked
      case .false, .null:
        options = .refused(try scanner.skipValue())
      default:
        note(.invalidType("stream_options.include_usage", expected: "a boolean"))
        try scanner.skipValue()
      }
    }
    if !isSeen { options = .object(insertAt: insertAt, isEmpty: isEmpty) }
  }
}
