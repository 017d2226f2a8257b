// A request of Anthropic's Messages API as a chat completion. One pass over the body; texts are copied as they stand.

package import Base
internal import JSON
package import OpenAI

/// Translates requests of `/v1/messages` and `/v1/messages/count_tokens`.
package enum MessagesRequest {
  /// The chat completion that asks for the same. Equal conversations give equal bytes for `messages` and `tools`, which
  /// are also those of the plain chat completion with the same texts, so that both are routed alike.
  ///
  /// - Parameters:
  ///   - isCount: only tokens are to be counted, so that `max_tokens` may be absent.
  ///   - stripsPreamble: leave out the system block by which Claude Code names its version, which differs from one
  ///     request to the next and would keep prefixes from being found (Dynamo's `--strip-anthropic-preamble`).
  /// Throws a 400 that names the field at fault.
  package static func chat(
    from body: UnsafeRawBufferPointer, isCount: Bool = false, stripsPreamble: Bool = true
  ) throws(APIError) -> ByteBuffer {
    var translation = Translation(stripsPreamble: stripsPreamble, capacity: body.count + 256)
    try translation.write(try Members.read(whole: body), isCount: isCount)
    return translation.out.take()
  }
}

private struct Translation: ~Copyable {
  let stripsPreamble: Bool
  var out: ByteBuffer
  private var messageCount = 0

  init(stripsPreamble: Bool, capacity: Int) {
    self.stripsPreamble = stripsPreamble
    out = ByteBuffer(capacity: capacity)
  }

  /// Keys of which a second one could be read differently by an engine that gets the body as it came.
  private static let singular: [StaticString] = [
    "model", "max_tokens", "messages", "system", "stream", "tools", "tool_choice", "cache_salt", "nvext",
  ]

  mutating func write(_ request: Members, isCount: Bool) throws(APIError) {
    for key in Self.singular where request.count(key) > 1 { throw .duplicateKey("\(key)") }
    guard let model = request["model"] else { throw .missing("model") }
    guard let name = model.contents else { throw .invalidType("model", expected: "a string") }
    if name.isEmpty { throw .invalidValue("model", reason: "it must not be empty") }
    out.append("{\"model\":" as StaticString)
    out.append(model)
    out.append(",\"messages\":[" as StaticString)
    if let system = request["system"] { try writeSystem(system) }
    try writeMessages(request["messages"])
    out.append(UInt8(ascii: "]"))
    if let tools = request["tools"] { try writeTools(tools) }
    if let choice = request["tool_choice"] { try writeToolChoice(choice) }
    // Routing hints are read, and a salt in them is refused to tenants, as in a chat.
    if let hints = request["nvext"] { append(",\"nvext\":", hints) }
    if !isCount { try writeLimits(request) }
    out.append(UInt8(ascii: "}"))
  }

  // MARK: Plain fields

  /// Fields that engines know by the same name, Anthropic's first.
  private static let shared: [StaticString] = [
    "temperature", "top_p", "top_k", "cache_salt", "seed", "min_tokens", "ignore_eos",
    "chat_template_kwargs",
  ]

  private mutating func writeLimits(_ request: Members) throws(APIError) {
    guard let limit = request["max_tokens"] else { throw .missing("max_tokens") }
    guard case .number = limit.kind else { throw .invalidType("max_tokens", expected: "an integer") }
    append(",\"max_tokens\":", limit)
    for key in Self.shared {
      guard let value = request[key] else { continue }
      out.append(UInt8(ascii: ","))
      out.append(jsonKey: key)
      out.append(value)
    }
    if let stops = request["stop_sequences"] {
      guard case .array = stops.kind else {
        throw .invalidType("stop_sequences", expected: "an array of strings")
      }
      append(",\"stop\":", stops)
    }
    if let user = try request["metadata"]?.members()?["user_id"], user.contents != nil {
      append(",\"user\":", user)
    }
    guard let stream = request["stream"] else { return }
    switch stream.kind {
    case .true:
      // The message's first event tells the prompt's tokens: only usage on every chunk tells them in time.
      out.append(
        ",\"stream\":true,\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true}"
          as StaticString)
    case .false: break
    default: throw .invalidType("stream", expected: "a boolean")
    }
  }

  private mutating func append(_ key: StaticString, _ value: RawValue) {
    out.append(key)
    out.append(value)
  }

  // MARK: System

  private mutating func writeSystem(_ system: RawValue) throws(APIError) {
    if system.contents != nil {
      open("system")
      append(",\"content\":", system)
      close()
      return
    }
    guard let blocks = try system.elements(of: "system") else {
      throw .invalidType("system", expected: "a string or an array of text blocks")
    }
    var texts: [UnsafeRawBufferPointer] = []
    for (index, block) in blocks.enumerated() {
      guard let text = try block.members()?["text"]?.contents else {
        throw .invalidType("system[\(index)]", expected: "a text block")
      }
      if stripsPreamble, text.text.hasPrefix("x-anthropic-billing-header") { continue }
      texts.append(text)
    }
    guard !texts.isEmpty else { return }
    open("system")
    out.append(",\"content\":" as StaticString)
    appendJoined(texts, by: "\\n")
    close()
  }

  /// Appends texts as one JSON string.
  private mutating func appendJoined(_ texts: [UnsafeRawBufferPointer], by separator: StaticString) {
    out.append(UInt8(ascii: "\""))
    for (index, text) in texts.enumerated() {
      if index > 0 { out.append(separator) }
      out.append(text)
    }
    out.append(UInt8(ascii: "\""))
  }

  // MARK: Messages

  /// Begins a message of the chat.
  private mutating func open(_ role: StaticString) {
    out.append(messageCount == 0 ? "{\"role\":\"" as StaticString : ",{\"role\":\"")
    out.append(role)
    out.append(UInt8(ascii: "\""))
    messageCount += 1
  }

  private mutating func close() { out.append(UInt8(ascii: "}")) }

  private mutating func writeMessages(_ messages: RawValue?) throws(APIError) {
    guard let messages else { throw .missing("messages") }
    guard let list = try messages.elements(of: "messages") else {
      throw .invalidType("messages", expected: "an array of messages")
    }
    if list.isEmpty { throw .invalidValue("messages", reason: "it must hold at least one message") }
    for (index, message) in list.enumerated() {
      let place = "messages[\(index)]"
      guard let fields = try message.members() else { throw .invalidType(place, expected: "an object") }
      guard let role = fields["role"] else { throw .missing("\(place).role") }
      guard let content = fields["content"] else { throw .missing("\(place).content") }
      if role.spells("user") {
        try writeUser(content, place)
      } else if role.spells("assistant") {
        try writeAssistant(content, place)
      } else if role.spells("system") {
        try writeSystem(content)
      } else {
        throw .invalidValue("\(place).role", reason: "it must be 'user' or 'assistant'")
      }
    }
  }

  /// Most blocks of one message, of which each is held with its members.
  private static let blocksMax = 10_000

  private func blocks(of content: RawValue, _ place: String) throws(APIError) -> [(type: String, Members)] {
    guard let list = try content.elements(of: "\(place).content", max: Self.blocksMax) else {
      throw .invalidType("\(place).content", expected: "a string or an array of blocks")
    }
    var blocks: [(String, Members)] = []
    for (index, block) in list.enumerated() {
      guard let fields = try block.members(), let type = fields["type"]?.text else {
        throw .invalidType("\(place).content[\(index)]", expected: "an object with a type")
      }
      blocks.append((type, fields))
    }
    return blocks
  }

  /// Results of tools are messages of their own and come first, as they do in Anthropic's API.
  private mutating func writeUser(_ content: RawValue, _ place: String) throws(APIError) {
    if content.contents != nil {
      open("user")
      append(",\"content\":", content)
      return close()
    }
    var parts: [Part] = []
    var results = 0
    for (index, block) in try blocks(of: content, place).enumerated() {
      let place = "\(place).content[\(index)]"
      if block.type == "tool_result" {
        results += 1
        try writeToolResult(block.1, place, images: &parts)
      } else {
        parts.append(try Part(block.type, block.1, place))
      }
    }
    if parts.isEmpty, results > 0 { return }
    open("user")
    out.append(",\"content\":" as StaticString)
    write(parts)
    close()
  }

  private mutating func writeToolResult(
    _ block: Members, _ place: String, images: inout [Part]
  ) throws(APIError) {
    guard let id = block["tool_use_id"], id.contents != nil else { throw .missing("\(place).tool_use_id") }
    var texts: [UnsafeRawBufferPointer] = []
    if let content = block["content"] {
      if let text = content.contents {
        texts = [text]
      } else {
        for (index, inner) in try blocks(of: content, place).enumerated() {
          switch try Part(inner.type, inner.1, "\(place).content[\(index)]") {
          case .text(let text): texts.append(text)
          // A tool's message holds no images in a chat: the user shows them.
          case let image: images.append(image)
          }
        }
      }
    }
    open("tool")
    append(",\"tool_call_id\":", id)
    out.append(",\"content\":" as StaticString)
    appendJoined(texts, by: "\\n")
    close()
  }

  private mutating func write(_ parts: [Part]) {
    if parts.count == 1, case .text(let text) = parts[0] { return appendJoined([text], by: "") }
    out.append(UInt8(ascii: "["))
    for (index, part) in parts.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      part.write(to: &out)
    }
    out.append(UInt8(ascii: "]"))
  }

  private mutating func writeAssistant(_ content: RawValue, _ place: String) throws(APIError) {
    open("assistant")
    if content.contents != nil {
      append(",\"content\":", content)
      return close()
    }
    var texts: [UnsafeRawBufferPointer] = []
    var thoughts: [UnsafeRawBufferPointer] = []
    var calls: [Members] = []
    for (index, block) in try blocks(of: content, place).enumerated() {
      let place = "\(place).content[\(index)]"
      switch block.type {
      case "text":
        guard let text = block.1["text"]?.contents else { throw .missing("\(place).text") }
        texts.append(text)
      case "thinking": if let thought = block.1["thinking"]?.contents { thoughts.append(thought) }
      case "redacted_thinking": break
      case "tool_use":
        for key in ["id", "name"] as [StaticString] where block.1[key]?.contents == nil {
          throw .missing("\(place).\(key)")
        }
        calls.append(block.1)
      default: throw Part.unsupported(block.type, place)
      }
    }
    out.append(",\"content\":" as StaticString)
    if texts.isEmpty, !calls.isEmpty {
      out.append("null" as StaticString)
    } else {
      appendJoined(texts, by: "")
    }
    if !thoughts.isEmpty {
      out.append(",\"reasoning_content\":" as StaticString)
      appendJoined(thoughts, by: "\\n")
    }
    if !calls.isEmpty { writeCalls(calls) }
    close()
  }

  private mutating func writeCalls(_ calls: [Members]) {
    out.append(",\"tool_calls\":[" as StaticString)
    for (index, call) in calls.enumerated() {
      guard let id = call["id"], let name = call["name"] else { continue }
      if index > 0 { out.append(UInt8(ascii: ",")) }
      append("{\"id\":", id)
      append(",\"type\":\"function\",\"function\":{\"name\":", name)
      out.append(",\"arguments\":" as StaticString)
      if let input = call["input"] {
        var arguments = ByteBuffer(capacity: input.bytes.count)
        arguments.append(input)
        out.append(jsonString: arguments.readable)
      } else {
        out.append("\"{}\"" as StaticString)
      }
      out.append("}}" as StaticString)
    }
    out.append(UInt8(ascii: "]"))
  }

  // MARK: Tools

  private mutating func writeTools(_ tools: RawValue) throws(APIError) {
    guard let list = try tools.elements(of: "tools") else {
      throw .invalidType("tools", expected: "an array of tools")
    }
    if list.isEmpty { return }
    out.append(",\"tools\":[" as StaticString)
    for (index, tool) in list.enumerated() {
      let place = "tools[\(index)]"
      guard let fields = try tool.members() else { throw .invalidType(place, expected: "an object") }
      if let type = fields["type"], !type.spells("custom") {
        throw .invalidValue(
          "\(place).type", reason: "only tools of the caller's own ('custom') are supported")
      }
      guard let name = fields["name"], name.contents != nil else { throw .missing("\(place).name") }
      guard let schema = fields["input_schema"] else { throw .missing("\(place).input_schema") }
      if index > 0 { out.append(UInt8(ascii: ",")) }
      append("{\"type\":\"function\",\"function\":{\"name\":", name)
      if let description = fields["description"] { append(",\"description\":", description) }
      append(",\"parameters\":", schema)
      out.append("}}" as StaticString)
    }
    out.append(UInt8(ascii: "]"))
  }

  private mutating func writeToolChoice(_ choice: RawValue) throws(APIError) {
    guard let fields = try choice.members(), let type = fields["type"] else {
      throw .invalidType("tool_choice", expected: "an object with a type")
    }
    if type.spells("auto") {
      out.append(",\"tool_choice\":\"auto\"" as StaticString)
    } else if type.spells("any") {
      out.append(",\"tool_choice\":\"required\"" as StaticString)
    } else if type.spells("none") {
      out.append(",\"tool_choice\":\"none\"" as StaticString)
    } else if type.spells("tool") {
      guard let name = fields["name"], name.contents != nil else { throw .missing("tool_choice.name") }
      append(",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":", name)
      out.append("}}" as StaticString)
    } else {
      throw .invalidValue("tool_choice.type", reason: "it must be 'auto', 'any', 'tool' or 'none'")
    }
    if fields["disable_parallel_tool_use"]?.isTrue == true {
      out.append(",\"parallel_tool_calls\":false" as StaticString)
    }
  }
}
