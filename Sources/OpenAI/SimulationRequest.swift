// What the simulated engine needs beyond the frontend's view of a request: sampling fields and the prompt's text.

internal import Base
internal import JSON

/// A request as the simulated engine reads it.
package struct SimulationRequest: Sendable {
  /// One prompt; a completions request may hold several.
  package enum Prompt: Sendable, Equatable {
    /// Text in UTF-8; a chat is written out in the ChatML layout with the answer's opening at the end.
    case text([UInt8])

    /// Token ids as the caller gave them.
    case tokens([UInt32])
  }

  package let endpoint: Endpoint

  /// The model's name, decoded.
  package let model: String

  /// At least one; a chat has exactly one.
  package internal(set) var prompts: [Prompt] = []

  /// `n`: answers for each prompt.
  package let choices: Int

  /// Bound on the answer's tokens; nil when the caller set none.
  package let maxTokens: Int?

  /// `min_tokens`, which engines know besides OpenAI's fields.
  package internal(set) var minTokens = 0

  package internal(set) var temperature: Double?
  package internal(set) var topP: Double?
  package internal(set) var seed: Int?

  /// Texts that end the answer.
  package internal(set) var stop: [String] = []

  /// `ignore_eos`: go on to `maxTokens` whatever the model says.
  package internal(set) var ignoresEndOfText = false

  package let stream: Bool

  /// `stream_options.include_usage`
  package let includeUsage: Bool

  /// `stream_options.continuous_usage_stats`: usage on each chunk.
  package internal(set) var continuousUsage = false

  /// `dimensions` of an embedding.
  package internal(set) var dimensions: Int?

  /// `encoding_format` of an embedding is `base64`.
  package internal(set) var wantsBase64 = false

  /// `cache_salt`, decoded; empty when there is none.
  package internal(set) var cacheSalt = ""

  /// What a chat's answer must look like; nil for any text.
  package var form: WantedForm?

  /// `logprobs` of a chat, and how many likely tokens to tell of each with it.
  package internal(set) var wantsLogprobs = false
  package internal(set) var topLogprobs = 0

  /// Reads a request body; throws what ``InferenceRequest/parse(_:endpoint:)`` throws, and `invalid_type` or
  /// `invalid_value` for the sampling fields.
  package static func parse(
    _ body: UnsafeRawBufferPointer, endpoint: Endpoint
  ) throws(APIError) -> SimulationRequest {
    let checked = try InferenceRequest.parse(body, endpoint: endpoint)
    var reader = SimulationReader(body: body, request: SimulationRequest(checked, body))
    do throws(JSONError) {
      try reader.read(checked)
    } catch {
      throw APIError.invalidJSON(error)
    }
    if let fault = reader.fault { throw fault }
    if case .chatCompletions = endpoint { try reader.readForm() }
    return reader.request
  }

  private init(_ checked: InferenceRequest, _ body: UnsafeRawBufferPointer) {
    endpoint = checked.endpoint
    model = checked.modelName(in: body)
    choices = checked.choices
    maxTokens = checked.maxTokens
    stream = checked.stream
    includeUsage = checked.includeUsage
  }
}

/// Second pass over a body that the first has found valid.
private struct SimulationReader {
  let body: UnsafeRawBufferPointer
  var request: SimulationRequest
  var fault: APIError?
  private var choice: JSONValue?
  private var format: JSONValue?
  private var tools: JSONValue?

  init(body: UnsafeRawBufferPointer, request: SimulationRequest) {
    self.body = body
    self.request = request
  }

  /// Most likely tokens that are told with one, as in OpenAI's API.
  private static let topLogprobsMax = 20

  mutating func readForm() throws(APIError) {
    guard request.wantsLogprobs || request.topLogprobs == 0 else {
      throw .invalidValue("top_logprobs", reason: "'logprobs' must be true for it")
    }
    guard (0...Self.topLogprobsMax).contains(request.topLogprobs) else {
      throw .invalidValue("top_logprobs", reason: "it must be between 0 and \(Self.topLogprobsMax)")
    }
    request.form = try WantedForm.read(tools: tools, choice: choice, format: format)
  }

  private func value(_ scanner: inout JSONScanner) throws(JSONError) -> JSONValue {
    try JSONValue.parse(body.slice(try scanner.skipValue()))
  }

  mutating func read(_ checked: InferenceRequest) throws(JSONError) {
    var scanner = JSONScanner(body)
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      switch key.decoded(in: body) {
      case "temperature":
        request.temperature = try number(&scanner, "temperature", in: 0...2)
      case "top_p":
        request.topP = try number(&scanner, "top_p", in: 0...1)
      case "seed":
        request.seed = try integer(&scanner, "seed")
      case "min_tokens":
        request.minTokens = try integer(&scanner, "min_tokens") ?? 0
        if request.minTokens < 0 { note(.invalidValue("min_tokens", reason: "it must not be negative")) }
      case "ignore_eos":
        request.ignoresEndOfText = try flag(&scanner)
      case "dimensions":
        request.dimensions = try integer(&scanner, "dimensions")
      case "encoding_format":
        switch try scanner.stringOrSkip()?.decoded(in: body) {
        case "base64": request.wantsBase64 = true
        case "float", nil: request.wantsBase64 = false
        default: note(.invalidValue("encoding_format", reason: "it must be 'float' or 'base64'"))
        }
      case "stop":
        try readStop(&scanner)
      case "stream_options":
        try readStreamOptions(&scanner)
      case "tools": tools = try value(&scanner)
      case "tool_choice": choice = try value(&scanner)
      case "response_format": format = try value(&scanner)
      case "logprobs": request.wantsLogprobs = try flag(&scanner)
      case "top_logprobs": request.topLogprobs = try integer(&scanner, "top_logprobs") ?? 0
      case "cache_salt":
        request.cacheSalt = try scanner.stringOrSkip()?.decoded(in: body) ?? ""
      default:
        try scanner.skipValue()
      }
    }
    switch request.endpoint {
    case .completions,
      .embeddings where checked.prompt != nil:
      try readPrompts(checked.prompt ?? 0..<0)
    case .responses:
      // The engine takes its canonical bytes.
      request.prompts = [.text([])]
    default:
      var chat = ChatTemplate(body: body)
      try chat.write(tools: checked.tools, messages: checked.messages ?? 0..<0)
      request.prompts = [.text(chat.text.bytes)]
    }
  }

  private mutating func note(_ error: APIError) {
    if fault == nil { fault = error }
  }

  private mutating func flag(_ scanner: inout JSONScanner) throws(JSONError) -> Bool {
    if case .true = try scanner.kind() {
      try scanner.literal()
      return true
    }
    try scanner.skipValue()
    return false
  }

  private mutating func number(
    _ scanner: inout JSONScanner, _ param: String, in range: ClosedRange<Double>
  ) throws(JSONError) -> Double? {
    switch try scanner.kind() {
    case .number:
      let value = Double(body.slice(try scanner.number().range).text) ?? .infinity
      if range.contains(value) { return value }
      note(
        .invalidValue(
          param, reason: "it must be between \(Int(range.lowerBound)) and \(Int(range.upperBound))"))
    case .null:
      try scanner.literal()
    default:
      note(.invalidType(param, expected: "a number"))
      try scanner.skipValue()
    }
    return nil
  }

  private mutating func integer(_ scanner: inout JSONScanner, _ param: String) throws(JSONError) -> Int? {
    switch try scanner.kind() {
    case .number:
      let number = try scanner.number()
      if let value = number.integer { return value }
      note(.invalidType(param, expected: "an integer"))
    case .null:
      try scanner.literal()
    default:
      note(.invalidType(param, expected: "an integer"))
      try scanner.skipValue()
    }
    return nil
  }

  private mutating func readStop(_ scanner: inout JSONScanner) throws(JSONError) {
    switch try scanner.kind() {
    case .string:
      request.stop = [try scanner.string().decoded(in: body)]
    case .array:
      request.stop = []
      try scanner.openArray()
      while try scanner.nextElement() {
        if let text = try scanner.stringOrSkip() {
          request.stop.append(text.decoded(in: body))
        } else {
          note(.invalidType("stop", expected: "a string or an array of strings"))
        }
      }
    case .null:
      try scanner.literal()
    default:
      note(.invalidType("stop", expected: "a string or an array of strings"))
      try scanner.skipValue()
    }
    // An empty stop text would end each answer before it begins.
    request.stop.removeAll { $0.isEmpty }
    if request.stop.count > 16 { note(.invalidValue("stop", reason: "it must not hold more than 16 texts")) }
  }

  private mutating func readStreamOptions(_ scanner: inout JSONScanner) throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    while let key = try scanner.nextKey() {
      if key.equals("continuous_usage_stats", in: body) {
        request.continuousUsage = try flag(&scanner)
      } else {
        try scanner.skipValue()
      }
    }
  }

  private mutating func readPrompts(_ range: Range<Int>) throws(JSONError) {
    var scanner = JSONScanner(body.slice(range))
    if case .string = try scanner.kind() {
      request.prompts = [.text(try text(&scanner, from: range))]
      return
    }
    var tokens: [UInt32] = []
    try scanner.openArray()
    while try scanner.nextElement() {
      switch try scanner.kind() {
      case .string: request.prompts.append(.text(try text(&scanner, from: range)))
      case .array: request.prompts.append(.tokens(try tokenList(&scanner)))
      default: tokens.append(try token(&scanner))
      }
    }
    if !tokens.isEmpty { request.prompts = [.tokens(tokens)] }
  }

  private func text(_ scanner: inout JSONScanner, from range: Range<Int>) throws(JSONError) -> [UInt8] {
    var buffer = ByteBuffer()
    buffer.append(decoding: body.slice(range).slice(try scanner.string().range))
    return buffer.bytes
  }

  private func tokenList(_ scanner: inout JSONScanner) throws(JSONError) -> [UInt32] {
    var tokens: [UInt32] = []
    try scanner.openArray()
    while try scanner.nextElement() { tokens.append(try token(&scanner)) }
    return tokens
  }

  private func token(_ scanner: inout JSONScanner) throws(JSONError) -> UInt32 {
    UInt32(clamping: try scanner.number().integer ?? 0)
  }
}
