// The fields that make up the prompt: messages and tools of a chat, prompt of a completion.

internal import JSON

extension RequestParser {
  mutating func readTools() throws(JSONError) {
    if case .null = try scanner.kind() {
      request.tools = nil
      return try scanner.literal()
    }
    scanner.sawWhitespace = false
    request.tools = try scanner.skipValue()
    if scanner.sawWhitespace { request.hasOuterWhitespace = true }
  }

  mutating func readMessages() throws(JSONError) {
    guard try scanner.arrayOrSkip() else {
      return note(.invalidType("messages", expected: "an array of messages"))
    }
    let start = scanner.offset - 1
    scanner.sawWhitespace = false
    var index = 0
    while try scanner.nextElement() {
      try readMessage(index)
      index += 1
    }
    if index == 0 { note(.invalidValue("messages", reason: "it must hold at least one message")) }
    request.messages = start..<scanner.offset
    request.messageCount = index
    if scanner.sawWhitespace { request.hasOuterWhitespace = true }
  }

  mutating func readMessage(_ index: Int) throws(JSONError) {
    guard try scanner.objectOrSkip() else {
      return note(.invalidType("messages[\(index)]", expected: "an object"))
    }
    var isSeen = false
    while let key = try scanner.nextKey() {
      guard key.equals("role", in: body) else {
        try scanner.skipValue()
        continue
      }
      if isSeen { note(.duplicateKey("messages[\(index)].role")) }
      isSeen = true
      if try scanner.stringOrSkip() == nil {
        note(.invalidType("messages[\(index)].role", expected: "a string"))
      }
    }
    if !isSeen { note(.missing("messages[\(index)].role")) }
  }

  /// Reads a prompt of a completion or the input of an embedding, whose shapes are the same.
  mutating func readPrompt(_ name: StaticString) throws(JSONError) {
    let param = "\(name)"
    let expected = "a string, or an array of strings, of tokens or of token arrays"
    switch try scanner.kind() {
    case .string:
      let text = try scanner.string().range
      request.prompt = (text.lowerBound - 1)..<(text.upperBound + 1)
      request.promptKind = .text
      return
    case .array:
      break
    case .null:
      return try scanner.literal()
    default:
      note(.invalidType(param, expected: expected))
      request.prompt = try scanner.skipValue()
      return
    }
    let start = scanner.offset
    scanner.sawWhitespace = false
    try scanner.openArray()
    var kind = InferenceRequest.PromptKind.none
    while try scanner.nextElement() {
      let element = try readPromptElement(param)
      switch (kind, element) {
      case (.none, _): kind = element
      case (.texts, .texts), (.tokens, .tokens), (.tokenLists, .tokenLists): break
      default: note(.invalidType(param, expected: expected))
      }
      if case .none = element { note(.invalidType(param, expected: expected)) }
    }
    if case .none = kind { note(.invalidValue(param, reason: "it must not be an empty array")) }
    request.prompt = start..<scanner.offset
    request.promptKind = kind
    if scanner.sawWhitespace { request.hasOuterWhitespace = true }
  }

  /// Reads the `input` of a response: a text, or items that the engine judges.
  mutating func readInput() throws(JSONError) {
    switch try scanner.kind() {
    case .string: request.promptKind = .text
    case .array: request.promptKind = .texts
    case .null: return try scanner.literal()
    default:
      note(.invalidType("input", expected: "a string or an array of items"))
      try scanner.skipValue()
      return
    }
    scanner.sawWhitespace = false
    request.prompt = try scanner.skipValue()
    if scanner.sawWhitespace { request.hasOuterWhitespace = true }
  }

  /// Reads the `instructions` of a response; of a value that is no text nothing is kept.
  mutating func readInstructions() throws(JSONError) {
    request.instructions = try scanner.stringOrSkip()?.range
  }

  /// What an array would be if all its elements were like the next one; `.none` when there is no such prompt.
  private mutating func readPromptElement(_ param: String) throws(JSONError) -> InferenceRequest.PromptKind {
    switch try scanner.kind() {
    case .string:
      _ = try scanner.string()
      return .texts
    case .number:
      return try readToken(param) ? .tokens : .none
    case .array:
      try scanner.openArray()
      var isValid = true
      while try scanner.nextElement() {
        if case .number = try scanner.kind() {
          if try !readToken(param) { isValid = false }
        } else {
          try scanner.skipValue()
          isValid = false
        }
      }
      return isValid ? .tokenLists : .none
    default:
      try scanner.skipValue()
      return .none
    }
  }

  private mutating func readToken(_ param: String) throws(JSONError) -> Bool {
    let number = try scanner.number()
    guard number.isInteger else { return false }
    if let token = number.integer, token >= 0, token <= Int(UInt32.max) { return true }
    note(.invalidValue(param, reason: "a token must be between 0 and 4294967295"))
    return true
  }
}
