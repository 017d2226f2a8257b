// A request as the values its template sees: what is the same for every engine.

internal import Base

/// Messages, tools and variables as an engine of one kind hands them to its template.
struct ChatInput {
  let traits: ChatTemplateTraits
  let arena: JinjaArena
  let engine: ChatTemplateRules.Engine

  /// What the template is rendered with.
  struct Chat {
    var messages: JinjaValue = .none
    var variables: [JinjaKeyword] = []
    /// The text to be continued, when the last message is.
    var continued: JinjaText?
    /// True when the continued text was taken out of the messages and goes behind the generation prompt.
    var appendsContinued = false
  }

  init(traits: ChatTemplateTraits, arena: JinjaArena, engine: ChatTemplateRules.Engine) {
    self.traits = traits
    self.arena = arena
    self.engine = engine
  }

  /// Variables that a request's own keyword arguments may not replace.
  private static let reserved: [StaticString] = [
    "messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize",
  ]

  mutating func read(_ request: ChatTemplateRequest, flatTools: Bool) throws(ChatTemplateError) -> Chat {
    guard case .list(let list) = try JinjaInputReader.read(request.messages, "messages", arena: arena) else {
      throw ChatTemplateError(.input, "messages must be an array")
    }
    var chat = Chat()
    var messages: [JinjaDict] = []
    messages.reserveCapacity(list.items.count)
    for item in list.items {
      guard case .dict(let message) = item else {
        throw ChatTemplateError(.input, "a message must be an object")
      }
      messages.append(message)
    }
    messages = try adapted(messages)
    var addsPrompt = request.addGenerationPrompt
    if request.continueFinalMessage {
      try setContinuation(&messages, &chat)
      addsPrompt = chat.appendsContinued
    } else if engine == .sglang, addsPrompt {
      messages = asUserAtEnd(messages)
    }
    chat.messages = try makeList(messages.map { .dict($0) })
    try addVariables(request, flatTools: flatTools, addsPrompt: addsPrompt, &chat)
    return chat
  }

  private mutating func addVariables(
    _ request: ChatTemplateRequest, flatTools: Bool, addsPrompt: Bool, _ chat: inout Chat
  ) throws(ChatTemplateError) {
    func add(_ name: StaticString, _ value: JinjaValue) {
      chat.variables.append(JinjaKeyword(name: JinjaText(name), value: value))
    }
    if let token = request.bosToken { add("bos_token", .string(try arena.copy(token))) }
    if let token = request.eosToken { add("eos_token", .string(try arena.copy(token))) }
    var documents = JinjaValue.none
    if let bytes = request.documents {
      documents = try JinjaInputReader.read(bytes, "documents", arena: arena)
    }
    if engine != .llamaCpp || !documents.isNone { add("documents", documents) }
    if engine == .llamaCpp { add("enable_thinking", .bool(true)) }
    try addEffort(request, &chat)
    if let bytes = request.extra {
      guard case .dict(let extra) = try JinjaInputReader.read(bytes, "chat_template_kwargs", arena: arena)
      else {
        throw ChatTemplateError(.input, "chat_template_kwargs must be an object")
      }
      for index in 0..<extra.count {
        let name = try extra.keys[index].expectedText()
        if ChatInput.reserved.contains(where: { name.equals($0) }) { continue }
        chat.variables.append(JinjaKeyword(name: name, value: extra.values[index]))
      }
    }
    let tools = try self.tools(request, flat: flatTools)
    if let tools { add("tools", tools) } else if engine != .llamaCpp { add("tools", .none) }
    if addsPrompt || engine != .llamaCpp { add("add_generation_prompt", .bool(addsPrompt)) }
  }

  /// The effort of reasoning: vLLM also turns thinking on by it, unless the request says otherwise itself.
  private func addEffort(_ request: ChatTemplateRequest, _ chat: inout Chat) throws(ChatTemplateError) {
    guard let bytes = request.reasoningEffort, engine == .vllm || engine == .sglang else { return }
    let effort = try JinjaInputReader.read(bytes, "reasoning_effort", arena: arena)
    if effort.isNone { return }
    chat.variables.append(JinjaKeyword(name: JinjaText("reasoning_effort"), value: effort))
    if engine == .vllm {
      let isOn = !effort.isEqual(.string(JinjaText("none")))
      chat.variables.append(JinjaKeyword(name: JinjaText("enable_thinking"), value: .bool(isOn)))
    }
  }

  func makeList(_ items: [JinjaValue]) throws(ChatTemplateError) -> JinjaValue {
    try arena.charge(48 + 24 * items.count)
    return .list(JinjaList(items))
  }

  /// The value of a key unless it is absent or null.
  func present(_ key: StaticString, _ dict: JinjaDict) -> JinjaValue? {
    guard let value = dict.value(key), !value.isNone else { return nil }
    return value
  }

  // MARK: Messages

  private func adapted(_ messages: [JinjaDict]) throws(ChatTemplateError) -> [JinjaDict] {
    var adapted: [JinjaDict] = []
    adapted.reserveCapacity(messages.count)
    for message in messages {
      try arena.charge(64 + 48 * message.count)
      switch engine {
      case .huggingFace: adapted.append(message)
      case .vllm: adapted.append(try vllm(message))
      case .sglang: adapted.append(try sglang(message))
      case .llamaCpp: adapted.append(try llamaCpp(message))
      }
    }
    switch engine {
    case .vllm: adapted = try withoutDeveloper(adapted)
    case .llamaCpp: adapted = try withoutSystemRole(adapted)
    default: break
    }
    // The transformers that vLLM and SGLang pin (5.19) hand messages on as they are.
    return engine == .huggingFace ? adapted.map { normalized($0) } : adapted
  }

  /// A message as the latest transformers hands it on: without null members, its reasoning under every name templates read.
  private func normalized(_ message: JinjaDict) -> JinjaDict {
    let reasoning =
      present("reasoning_content", message) ?? present("thinking", message) ?? present("reasoning", message)
    if reasoning == nil, !message.values.contains(where: { $0.isNone }) { return message }
    let clean = JinjaDict()
    if let reasoning { clean.set("thinking", reasoning) }
    for index in 0..<message.count where !message.values[index].isNone {
      clean.set(message.keys[index], message.values[index])
    }
    if let reasoning { clean.set("reasoning_content", reasoning) }
    return clean
  }

  // MARK: Tools

  private func tools(_ request: ChatTemplateRequest, flat: Bool) throws(ChatTemplateError) -> JinjaValue? {
    guard let bytes = request.tools else { return nil }
    let value = try JinjaInputReader.read(bytes, "tools", arena: arena)
    if value.isNone { return nil }
    guard case .list(let list) = value else { throw ChatTemplateError(.input, "tools must be an array") }
    if engine != .huggingFace, list.items.isEmpty { return nil }
    var tools: [JinjaValue] = []
    for item in list.items {
      guard case .dict(let tool) = item else { throw ChatTemplateError(.input, "a tool must be an object") }
      guard engine != .huggingFace else {
        tools.append(item)
        continue
      }
      guard case .dict(let function)? = tool.value("function") else {
        throw ChatTemplateError(.input, "a tool must have a function")
      }
      try arena.charge(256)
      let adapted = adapted(function)
      if flat {
        tools.append(.dict(adapted))
        continue
      }
      let wrapper = JinjaDict()
      wrapper.set("type", .string(JinjaText("function")))
      wrapper.set("function", .dict(adapted))
      tools.append(.dict(wrapper))
    }
    return try makeList(tools)
  }

  private func adapted(_ function: JinjaDict) -> JinjaDict {
    let adapted = JinjaDict()
    switch engine {
    case .vllm:
      // A model of pydantic: its own fields in its own order, absent ones as null.
      for key in ["name", "description", "parameters"] as [StaticString] {
        adapted.set(key, function.value(key) ?? .none)
      }
      if let strict = present("strict", function) { adapted.set("strict", strict) }
    case .llamaCpp:
      adapted.set("name", function.value("name") ?? .none)
      adapted.set("description", function.value("description") ?? .string(.empty))
      adapted.set("parameters", function.value("parameters") ?? .dict(JinjaDict()))
    default:
      // SGLang keeps the order of the request.
      for index in 0..<function.count {
        guard case .string(let key) = function.keys[index] else { continue }
        let isNull = function.values[index].isNone
        if key.equals("name") || key.equals("description") || key.equals("parameters")
          || !isNull && (key.equals("strict") || key.equals("defer_loading"))
        {
          adapted.set(.string(key), function.values[index])
        }
      }
    }
    return adapted
  }
}
