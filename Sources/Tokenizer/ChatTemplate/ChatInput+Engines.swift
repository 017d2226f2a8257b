// A request as the values its template sees: what each kind of engine makes of a message.

internal import Base

extension ChatInput {
  // MARK: vLLM

  /// A message after vLLM's request model and parser.
  func vllm(_ message: JinjaDict) throws(ChatTemplateError) -> JinjaDict {
    let made = JinjaDict()
    let role = message.value("role") ?? .none
    made.set("role", role)
    let name = role.text ?? .empty
    var parts = try parts(message.value("content"))
    if name.equals("system") { parts = withoutBillingHeader(parts) }
    let isList = traits.vllmFormat == .openai
    made.set(
      "content", isList ? try vllmList(parts, isTool: name.equals("tool")) : .string(try vllmText(parts)))
    if name.equals("assistant") {
      if let calls = present("tool_calls", message) {
        let list = try vllmCalls(calls)
        if list.isTrue { made.set("tool_calls", list) }
      }
      if let reasoning = present("reasoning", message) ?? present("reasoning_content", message) {
        made.set("reasoning", reasoning)
        made.set("reasoning_content", reasoning)
      }
    } else if name.equals("tool"), let id = message.value("tool_call_id") {
      made.set("tool_call_id", id)
    }
    for key in ["name", "task"] as [StaticString] {
      if case .string? = message.value(key) { made.set(key, message.value(key) ?? .none) }
    }
    if name.equals("developer"), let tools = message.value("tools") { made.set("tools", tools) }
    return made
  }

  private func vllmText(_ parts: [ChatPart]) throws(ChatTemplateError) -> JinjaText {
    var marks: [JinjaText] = []
    var texts: [JinjaText] = []
    for part in parts {
      switch part {
      case .text(let text): if !text.isEmpty { texts.append(text) }
      case .media(_, let mark): marks.append(mark)
      case .other(let dict): if let name = dict.value("name")?.text { texts.append(name) }
      }
    }
    // Media go in front, as where the template has no place for them.
    if !texts.isEmpty { marks.append(try joined(texts, "\n")) }
    return try joined(marks, "\n")
  }

  private func vllmList(_ parts: [ChatPart], isTool: Bool) throws(ChatTemplateError) -> JinjaValue {
    var texts: [JinjaText] = []
    for part in parts {
      guard isTool, case .text(let text) = part else { return try list(parts) }
      texts.append(text)
    }
    return isTool ? .string(try joined(texts, "\n")) : try list(parts)
  }

  /// Without the line that one client puts in front of its system message and that differs with each request.
  private func withoutBillingHeader(_ parts: [ChatPart]) -> [ChatPart] {
    parts.compactMap { part in
      guard case .text(let text) = part, text.hasPrefix(JinjaText("x-anthropic-billing-header")) else {
        return part
      }
      guard let end = text.find(JinjaText("\n")), end + 1 < text.count else { return nil }
      return .text(text.slice(end + 1, text.count))
    }
  }

  /// Tool calls in the order of the request model, their arguments as mappings.
  private func vllmCalls(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard case .list(let list) = value else { throw ChatTemplateError(.input, "tool_calls must be an array") }
    var calls: [JinjaValue] = []
    for item in list.items {
      guard case .dict(let call) = item, case .dict(let function)? = call.value("function") else {
        throw ChatTemplateError(.input, "a tool call must have a function")
      }
      let made = JinjaDict()
      if let id = call.value("id") { made.set("id", id) }
      let inner = JinjaDict()
      inner.set("arguments", object(function.value("arguments")) ?? .dict(JinjaDict()))
      inner.set("name", function.value("name") ?? .none)
      made.set("function", .dict(inner))
      made.set("type", .string(JinjaText("function")))
      calls.append(.dict(made))
    }
    try arena.charge(512 * calls.count)
    return try makeList(calls)
  }

  /// The arguments of a call as a mapping; nil when they are none.
  private func object(_ arguments: JinjaValue?) -> JinjaValue? {
    switch arguments {
    case .dict?: return arguments
    case .string(let text)?:
      if case .dict(let dict)? = decoded(text) { return .dict(dict) }
      return nil
    default: return nil
    }
  }

  /// The role `developer` as `system` where the template does not know it; then all system messages are one in front.
  func withoutDeveloper(_ messages: [JinjaDict]) throws(ChatTemplateError) -> [JinjaDict] {
    func role(_ message: JinjaDict) -> JinjaText { message.value("role")?.text ?? .empty }
    guard !traits.namesDeveloper, messages.contains(where: { role($0).equals("developer") }) else {
      return messages
    }
    var contents: [JinjaText] = []
    var others: [JinjaDict] = []
    var system: JinjaDict?
    for message in messages {
      guard role(message).equals("developer") || role(message).equals("system") else {
        others.append(message)
        continue
      }
      if system == nil { system = message }
      var text = JinjaText.empty
      switch message.value("content") {
      case .string(let content)?: text = content
      case .list(let list)?:
        var texts: [JinjaText] = []
        for item in list.items {
          if case .dict(let part) = item, let content = part.value("text")?.text { texts.append(content) }
        }
        text = try joined(texts, "\n")
      default: break
      }
      if !text.isEmpty { contents.append(text) }
    }
    let merged = JinjaDict()
    merged.set("role", .string(JinjaText("system")))
    if others.count == messages.count - 1, role(messages[0]).equals("developer"), let system {
      // One message that stands in front already stays as it is.
      for index in 0..<system.count {
        guard case .string(let key) = system.keys[index], !key.equals("role"), !key.equals("tools") else {
          continue
        }
        merged.set(.string(key), system.values[index])
      }
    } else {
      merged.set("content", .string(try joined(contents, "\n\n")))
    }
    return [merged] + others
  }

  // MARK: SGLang

  /// A message after SGLang's request model and content processing.
  func sglang(_ message: JinjaDict) throws(ChatTemplateError) -> JinjaDict {
    let made = JinjaDict()
    let role = message.value("role")?.text ?? .empty
    let lowered = try arena.copy(role.string.lowercased())
    made.set("role", .string(lowered))
    made.set("content", try sglangContent(message.value("content"), isTool: lowered.equals("tool")))
    if lowered.equals("user") { return made }
    for key in ["tool_call_id", "name", "phase", "reasoning_content"] as [StaticString] {
      if let value = present(key, message) { made.set(key, value) }
    }
    if let calls = present("tool_calls", message) { made.set("tool_calls", try sglangCalls(calls)) }
    for key in ["tools", "prefix"] as [StaticString] {
      if let value = present(key, message) { made.set(key, value) }
    }
    return made
  }

  private func sglangContent(_ content: JinjaValue?, isTool: Bool) throws(ChatTemplateError) -> JinjaValue {
    guard case .list? = content else {
      if case .string(let text)? = content { return .string(text) }
      return .string(.empty)
    }
    let parts = try parts(content)
    var texts: [JinjaText] = []
    var isTextOnly = true
    for part in parts {
      if case .text(let text) = part { texts.append(text) } else { isTextOnly = false }
    }
    if traits.sglangFormat == .string {
      // Media are left out by the engine; what stands for them goes in front, to tell requests apart.
      var marks: [JinjaText] = []
      for part in parts {
        if case .media(_, let mark) = part { marks.append(mark) }
      }
      if !texts.isEmpty { marks.append(try joined(texts, " ")) }
      return .string(try joined(marks, "\n"))
    }
    return isTool && isTextOnly ? .string(try joined(texts, " ")) : try list(parts)
  }

  private func sglangCalls(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard case .list(let list) = value else { throw ChatTemplateError(.input, "tool_calls must be an array") }
    var calls: [JinjaValue] = []
    for item in list.items {
      guard case .dict(let call) = item, case .dict(let function)? = call.value("function") else {
        throw ChatTemplateError(.input, "a tool call must have a function")
      }
      let made = JinjaDict()
      made.set("id", call.value("id") ?? .none)
      made.set("index", call.value("index") ?? .none)
      made.set("type", .string(JinjaText("function")))
      let inner = JinjaDict()
      inner.set("name", function.value("name") ?? .none)
      var arguments = function.value("arguments") ?? .none
      if case .string = arguments {
        guard let object = object(arguments) else {
          throw ChatTemplateError(.input, "the arguments of a tool call must be a JSON object")
        }
        arguments = object
      }
      inner.set("arguments", arguments)
      made.set("function", .dict(inner))
      calls.append(.dict(made))
    }
    try arena.charge(512 * calls.count)
    return try makeList(calls)
  }

  /// SGLang makes a last message of the assistant one of the user, when a new answer is asked for.
  func asUserAtEnd(_ messages: [JinjaDict]) -> [JinjaDict] {
    guard let last = messages.last, last.value("role")?.text?.equals("assistant") ?? false,
      case .string(let text)? = last.value("content")
    else { return messages }
    let user = JinjaDict()
    user.set("role", .string(JinjaText("user")))
    user.set("content", .string(text))
    return messages.dropLast() + [user]
  }

  // MARK: llama.cpp

  /// A message after llama.cpp's parser, its content in the form that the template takes.
  func llamaCpp(_ message: JinjaDict) throws(ChatTemplateError) -> JinjaDict {
    let made = JinjaDict()
    var role = message.value("role") ?? .none
    if !traits.namesChannels, role.isEqual(.string(JinjaText("developer"))) {
      role = .string(JinjaText("system"))
    }
    made.set("role", role)
    made.set("content", try llamaCppContent(message.value("content")))
    for key in ["reasoning_content", "name", "tool_call_id"] as [StaticString] {
      if let value = present(key, message), value.isTrue { made.set(key, value) }
    }
    guard let calls = present("tool_calls", message) else { return made }
    guard case .list(let list) = calls else { throw ChatTemplateError(.input, "tool_calls must be an array") }
    var items: [JinjaValue] = []
    for item in list.items {
      guard case .dict(let call) = item, case .dict(let function)? = call.value("function") else {
        throw ChatTemplateError(.input, "a tool call must have a function")
      }
      let inner = JinjaDict()
      inner.set("name", function.value("name") ?? .none)
      inner.set("arguments", try llamaCppArguments(function.value("arguments") ?? .none))
      let outer = JinjaDict()
      outer.set("type", .string(JinjaText("function")))
      outer.set("function", .dict(inner))
      if let id = present("id", call), id.isTrue { outer.set("id", id) }
      items.append(.dict(outer))
    }
    try arena.charge(512 * items.count)
    if !items.isEmpty { made.set("tool_calls", try makeList(items)) }
    return made
  }

  private func llamaCppArguments(_ arguments: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard traits.takesObjectArguments else { return arguments }
    guard case .string(let text) = arguments else { return arguments }
    guard let value = decoded(text) else {
      throw ChatTemplateError(.input, "the arguments of a tool call must be JSON")
    }
    return value
  }

  private func llamaCppContent(_ content: JinjaValue?) throws(ChatTemplateError) -> JinjaValue {
    let parts = try parts(content)
    let onlyParts = traits.takesParts && !traits.takesStrings
    if case .list? = content {
      let hasMedia = parts.contains { part in
        if case .media = part { return true }
        return false
      }
      if traits.takesParts, !hasMedia { return try list(parts) }
      // Parts are joined by newlines, but for those next to media.
      var bytes = ByteBuffer()
      var isAfterMedia = false
      for part in parts {
        switch part {
        case .text(let text):
          if !isAfterMedia, !bytes.isEmpty { bytes.append(UInt8(ascii: "\n")) }
          bytes.append(text.bytes)
          isAfterMedia = false
        case .media(_, let mark):
          bytes.append(mark.bytes)
          isAfterMedia = true
        case .other: break
        }
      }
      let text = try arena.copy(bytes.readable)
      return onlyParts ? try makeList([textPart(text)]) : .string(text)
    }
    guard case .text(let text)? = parts.first else { return .string(.empty) }
    return onlyParts ? try makeList([textPart(text)]) : .string(text)
  }

  /// A first system message as part of the next one, where the template has no place for it.
  func withoutSystemRole(_ messages: [JinjaDict]) throws(ChatTemplateError) -> [JinjaDict] {
    guard !traits.takesSystemRole, let first = messages.first,
      first.value("role")?.text?.equals("system") ?? false
    else { return messages }
    var rest = Array(messages.dropFirst())
    guard let next = rest.first else { return [] }
    guard case .string(let text)? = first.value("content"),
      case .string(let following)? = next.value("content")
    else {
      return messages
    }
    let merged = JinjaDict()
    for index in 0..<next.count { merged.set(next.keys[index], next.values[index]) }
    merged.set("content", .string(try joined([text, following], "\n")))
    rest[0] = merged
    return rest
  }
}
