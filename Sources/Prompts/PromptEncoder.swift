// Prompts as token ids: the template rendered and its text encoded, in memory that is used again.

package import Base
package import EventLoop
internal import JSON
package import OpenAI
package import Tokenizer

/// Why a prompt has no tokens: the engine will say what is wrong with it, routing only goes without them.
package struct PromptFailure: Error {
  /// One of few words, fit for a metric's label.
  package let reason: String
  package let message: String

  init(_ reason: String, _ message: String) {
    self.reason = reason
    self.message = message
  }

  init(_ error: ChatTemplateError) {
    self.init(error.reason.rawValue, "the chat template: \(error.message)")
  }

  init(_ error: TokenizerError) { self.init("encoding", error.explanation) }
}

/// Renders and encodes one prompt at a time. Unchecked: one thread has it at a time, the loop that keeps it or whoever
/// took it out of ``ModelTokenizer``'s locked list.
package final class PromptEncoder: @unchecked Sendable {
  /// When the steps of the last prompt ended; 0 for those that did not run.
  package struct Times {
    package var began: Nanoseconds = 0
    package var rendered: Nanoseconds = 0
    package var encoded: Nanoseconds = 0

    /// All zero.
    package init(began: Nanoseconds = 0) { self.began = began }
  }

  private let model: ModelTokenizer.Parts
  private let encoder: TextEncoder
  /// How the engine makes a chat of a request.
  private var rules = ChatTemplateRules(.vllm)
  private var text = ByteBuffer()
  /// The chat of a request that is none.
  private var chat = ByteBuffer()
  package private(set) var times = Times()
  /// The ids of the last prompt.
  package private(set) var ids = TokenIDs()

  /// Room for more ids, or for a longer text, is not kept between prompts.
  private static let keptIDsMax = 1 << 17
  private static let keptTextMax = 1 << 20

  /// Works with what `model` has.
  package init(_ model: ModelTokenizer.Parts) {
    self.model = model
    encoder = TextEncoder(model.tokenizer, prefixCache: model.cache)
  }

  /// Makes ``ids`` of the prompt in the body of a request to `endpoint`, as `engine` does.
  package func encode(
    promptOf body: UnsafeRawBufferPointer, _ endpoint: Endpoint, as engine: ChatTemplateRules.Engine = .vllm,
    clock: (any SystemCalls)?
  ) throws(PromptFailure) {
    times = Times()
    guard case .responses = endpoint else {
      let fields = try Self.fields(body).limited(to: endpoint)
      return try encode(fields, in: body, as: engine, clock: clock)
    }
    chat.removeAll()
    guard engine == .vllm, ResponsesChat.write(body, into: &chat) else {
      throw PromptFailure("responses", "only the engine knows what it makes of this response")
    }
    try encode(Self.fields(chat.readable), in: chat.readable, as: engine, clock: clock)
  }

  private static func fields(_ body: UnsafeRawBufferPointer) throws(PromptFailure) -> PromptFields {
    do throws(APIError) {
      return try PromptFields.read(body)
    } catch {
      throw PromptFailure("input", error.message)
    }
  }

  /// Makes ``ids`` of a chat or of a completion's prompt, as `engine` does. `clock` is for the times, and for templates
  /// that ask for the date.
  package func encode(
    _ fields: PromptFields, in body: UnsafeRawBufferPointer, as engine: ChatTemplateRules.Engine = .vllm,
    clock: (any SystemCalls)?
  ) throws(PromptFailure) {
    rules = ChatTemplateRules(engine)
    encoder.skipsNormalization = engine == .llamaCpp
    times = Times(began: clock?.monotonicNanoseconds() ?? 0)
    ids.removeAll()
    text.removeAll()
    if let messages = fields.messages {
      try render(fields, messages, in: body, seconds: Int((clock?.wallNanoseconds() ?? 0) / 1_000_000_000))
      times.rendered = clock?.monotonicNanoseconds() ?? 0
      // Templates write the special tokens themselves.
      try encodeText(special: fields.addSpecialTokens ?? false)
    } else if let prompt = fields.prompt {
      try take(prompt, in: body, special: fields.addSpecialTokens ?? true)
    } else {
      throw PromptFailure("input", "there is no prompt")
    }
    times.encoded = clock?.monotonicNanoseconds() ?? 0
  }

  /// Gives the memory of an unusually long prompt back, and with it its ids.
  package func trim() {
    if ids.count > Self.keptIDsMax { ids = TokenIDs() }
    if text.capacity > Self.keptTextMax { text.release() }
    if chat.capacity > Self.keptTextMax { chat.release() }
  }

  private func render(
    _ fields: PromptFields, _ messages: Range<Int>, in body: UnsafeRawBufferPointer, seconds: Int
  ) throws(PromptFailure) {
    if fields.hasOwnTemplate { throw PromptFailure("own_template", "the request brings its own template") }
    let hasTools = fields.tools != nil
    guard let template = hasTools ? model.toolTemplate ?? model.template : model.template else {
      throw PromptFailure("no_template", "the model has no chat template")
    }
    var request = ChatTemplateRequest(messages: body.slice(messages))
    request.tools = fields.tools.map { body.slice($0) }
    request.extra = fields.templateArguments.map { body.slice($0) }
    request.documents = fields.documents.map { body.slice($0) }
    request.reasoningEffort = fields.reasoningEffort.map { body.slice($0) }
    request.addGenerationPrompt = fields.addGenerationPrompt ?? true
    request.continueFinalMessage = fields.continueFinalMessage ?? false
    if request.continueFinalMessage, request.addGenerationPrompt {
      throw PromptFailure(
        "continuation", "continue_final_message needs add_generation_prompt to be false")
    }
    request.bosToken = model.beginToken
    request.eosToken = model.endToken
    request.now = ChatTemplateTime(seconds: seconds)
    do throws(ChatTemplateError) {
      try template.render(request, rules: rules, into: &text)
    } catch {
      throw PromptFailure(error)
    }
  }

  private func encodeText(special: Bool) throws(PromptFailure) {
    do throws(TokenizerError) {
      try encoder.encode(text.readable, addSpecialTokens: special, into: &ids)
    } catch {
      throw PromptFailure(error)
    }
  }

  // MARK: Completions

  /// Takes a prompt that is a text or a list of ids, bare or alone in an array.
  private func take(
    _ prompt: Range<Int>, in body: UnsafeRawBufferPointer, special: Bool
  ) throws(PromptFailure) {
    var scanner = JSONScanner(body.slice(prompt))
    let bytes = body.slice(prompt)
    var isText = false
    var isKnown = false
    do throws(JSONError) {
      var kind = try scanner.kind()
      if case .array = kind {
        try scanner.openArray()
        guard try scanner.nextElement() else { throw JSONError(.valueExpected, at: 0) }
        kind = try scanner.kind()
        if case .number = kind {
          isKnown = true
          try readIDs(&scanner)
        } else if case .array = kind {
          isKnown = true
          try scanner.openArray()
          if try scanner.nextElement() { try readIDs(&scanner) }
          if try scanner.nextElement() { throw JSONError(.valueExpected, at: 0) }
        }
      }
      if case .string = kind {
        let string = try scanner.string()
        text.append(decoding: bytes.slice(string.range))
        isText = true
        isKnown = true
        if scanner.depth > 0, try scanner.nextElement() { throw JSONError(.valueExpected, at: 0) }
      }
    } catch {
      throw PromptFailure("several_prompts", "several prompts, or none that can be encoded")
    }
    guard isKnown else { throw PromptFailure("input", "the prompt is neither text nor ids") }
    if isText { try encodeText(special: special) }
  }

  /// Reads ids to the end of their array; the scanner stands before the first.
  private func readIDs(_ scanner: inout JSONScanner) throws(JSONError) {
    repeat {
      guard let value = try scanner.number().integer, let id = UInt32(exactly: value) else {
        throw JSONError(.valueExpected, at: 0)
      }
      ids.append(id)
    } while try scanner.nextElement()
  }
}
