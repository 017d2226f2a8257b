// Chat templates: compiled once for a model, rendered for each request.

package import Base

/// What a chat is rendered from. The JSON must stay where it is while it is rendered.
package struct ChatTemplateRequest {
  /// The request's `messages`, raw JSON.
  package var messages: UnsafeRawBufferPointer

  /// The request's `tools`, raw JSON; nil when it has none.
  package var tools: UnsafeRawBufferPointer?

  /// `chat_template_kwargs`, raw JSON; nil when it has none.
  package var extra: UnsafeRawBufferPointer?

  /// The request's `documents`, raw JSON; nil when it has none.
  package var documents: UnsafeRawBufferPointer?

  /// The request's `reasoning_effort`, raw JSON; nil when it has none. vLLM and SGLang hand it to the template.
  package var reasoningEffort: UnsafeRawBufferPointer?

  /// Whether the text ends with the opening of the assistant's answer.
  package var addGenerationPrompt = true

  /// Whether the last message is to be continued: the text ends where its content ends.
  package var continueFinalMessage = false

  /// The model's special tokens; nil for one it has not.
  package var bosToken: String?
  package var eosToken: String?

  /// What `strftime_now` tells.
  package var now = ChatTemplateTime(seconds: 0)

  package init(messages: UnsafeRawBufferPointer) {
    self.messages = messages
  }

  /// Bytes of JSON in all.
  var byteCount: Int {
    messages.count + (tools?.count ?? 0) + (extra?.count ?? 0) + (documents?.count ?? 0)
  }
}

/// A compiled chat template: immutable, used by all threads at once.
///
/// The text it renders equals that of transformers' `apply_chat_template`: jinja2 in its immutable sandbox with
/// `trim_blocks` and `lstrip_blocks`, Python's printing of values, and no clock. Nothing a template or a request holds
/// can take more time, memory or stack than the limits say.
package struct ChatTemplate: Sendable {
  private let program: JinjaProgram
  private let limits: ChatTemplateLimits
  private var traits: ChatTemplateTraits

  /// Compiles `source`.
  package init(
    source: UnsafeRawBufferPointer, limits: ChatTemplateLimits = ChatTemplateLimits()
  ) throws(ChatTemplateError) {
    program = try JinjaProgram.compile(source, limits: limits)
    self.limits = limits
    traits = ChatTemplateTraits(program)
    probe()
  }

  /// Compiles `source`.
  package init(
    source: String, limits: ChatTemplateLimits = ChatTemplateLimits()
  ) throws(ChatTemplateError) {
    let bytes = Array(source.utf8)
    var made: Result<ChatTemplate, ChatTemplateError>?
    bytes.withUnsafeBytes { bytes in
      do throws(ChatTemplateError) {
        made = .success(try ChatTemplate(source: bytes, limits: limits))
      } catch {
        made = .failure(error)
      }
    }
    guard let made else { throw ChatTemplateError(.syntax, "no template") }
    self = try made.get()
  }

  /// Whether an engine of this kind hands the template content as text or as parts.
  package func contentFormat(_ rules: ChatTemplateRules) -> ChatContentFormat {
    switch rules.engine {
    case .sglang: traits.sglangFormat
    default: traits.vllmFormat
    }
  }

  /// Appends the text that an engine of this kind makes of a request. On an error nothing is appended.
  package func render(
    _ request: ChatTemplateRequest, rules: ChatTemplateRules, into out: inout ByteBuffer
  ) throws(ChatTemplateError) {
    do throws(ChatTemplateError) {
      try render(request, rules: rules, flatTools: false, into: &out)
    } catch {
      // SGLang tries again with the bare functions, for templates that want no wrapper around them.
      guard rules.engine == .sglang, request.tools != nil else { throw error }
      try render(request, rules: rules, flatTools: true, into: &out)
    }
  }

  private func render(
    _ request: ChatTemplateRequest, rules: ChatTemplateRules, flatTools: Bool, into out: inout ByteBuffer
  ) throws(ChatTemplateError) {
    let arena = JinjaArena(bytesMax: limits.memoryBytesMax)
    var input = ChatInput(traits: traits, arena: arena, engine: rules.engine)
    let chat = try input.read(request, flatTools: flatTools)
    let renderer = JinjaRenderer(
      program: program, limits: limits, arena: arena, now: request.now,
      capacity: request.byteCount + 1024)
    renderer.define(JinjaText("messages"), chat.messages)
    for variable in chat.variables { renderer.define(variable.name, variable.value) }
    try renderer.run()
    let text = renderer.output.readable
    if chat.continued == nil {
      out.append(text)
    } else {
      try chat.appendContinued(text, source: program.source, to: &out)
    }
  }

  // MARK: Trial renderings

  /// Finds out by rendering small chats what llama.cpp finds out that way.
  private mutating func probe() {
    let mark = "probe-7f3a"
    let plain = probe("[{\"role\":\"user\",\"content\":\"\(mark)\"}]")
    traits.takesStrings = plain.map { $0.contains(mark) } ?? false
    if !traits.takesStrings, !traits.takesParts {
      let parts = probe("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\(mark)\"}]}]")
      traits.takesParts = parts.map { $0.contains(mark) } ?? false
    }
    let system = probe(
      "[{\"role\":\"system\",\"content\":\"\(mark)\"},{\"role\":\"user\",\"content\":\"a\"}]")
    traits.takesSystemRole = system.map { $0.contains(mark) } ?? false
    let call = """
      [{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"id":"call00001","type":"function",\
      "function":{"name":"tool1","arguments":{"arg":"\(mark)"}}}]},{"role":"tool","content":"b","tool_call_id":\
      "call00001"},{"role":"assistant","content":"c"},{"role":"user","content":"d"}]
      """
    traits.takesObjectArguments = probe(call).map { $0.contains(mark) } ?? false
  }

  private func probe(_ messages: String) -> String? {
    var bounds = limits
    bounds.stepsMax = min(bounds.stepsMax, 100_000)
    let bytes = Array(messages.utf8)
    return bytes.withUnsafeBytes { bytes in
      let arena = JinjaArena(bytesMax: 1 << 20)
      let renderer = JinjaRenderer(
        program: program, limits: bounds, arena: arena, now: ChatTemplateTime(seconds: 0))
      do throws(ChatTemplateError) {
        renderer.define(JinjaText("messages"), try JinjaInputReader.read(bytes, "messages", arena: arena))
        renderer.define(JinjaText("add_generation_prompt"), .bool(true))
        renderer.define(JinjaText("bos_token"), .string(.empty))
        renderer.define(JinjaText("eos_token"), .string(.empty))
        try renderer.run()
        return renderer.output.text
      } catch {
        return nil
      }
    }
  }
}
