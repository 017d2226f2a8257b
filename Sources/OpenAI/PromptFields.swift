// The fields that shape a prompt's tokens, for servers that make tokens: a second pass over the body, made only then.

internal import Base
internal import JSON

/// What of a body vLLM takes into a prompt, also of `/tokenize` and `/detokenize`. Ranges are positions in the body; a
/// field that is null counts as absent, and of a key that comes twice the last one counts, as in Python.
package struct PromptFields: Sendable {
  /// Raw JSON values.
  package private(set) var messages: Range<Int>?
  package private(set) var tools: Range<Int>?
  package private(set) var documents: Range<Int>?
  /// `chat_template_kwargs`.
  package private(set) var templateArguments: Range<Int>?
  package private(set) var reasoningEffort: Range<Int>?
  package private(set) var prompt: Range<Int>?
  /// The ids of `/detokenize`.
  package private(set) var tokens: Range<Int>?
  /// The contents of the model's name, decoded.
  package private(set) var model: String?
  /// True when the request brings a template of its own, which engines refuse unless they are told to trust it.
  package private(set) var hasOwnTemplate = false
  package private(set) var addGenerationPrompt: Bool?
  package private(set) var continueFinalMessage: Bool?
  package private(set) var addSpecialTokens: Bool?
  package private(set) var returnTokenStrings: Bool?

  /// Reads a body. Throws a 400 when it is no JSON, no object, or when a flag is no boolean.
  package static func read(_ body: UnsafeRawBufferPointer) throws(APIError) -> PromptFields {
    var fields = PromptFields()
    var scanner = JSONScanner(body)
    var isObject = true
    do throws(JSONError) {
      isObject = try scanner.objectOrSkip()
      while isObject, let key = try scanner.nextKey() {
        let name = key.decoded(in: body)
        let kind = try scanner.kind()
        let value = try scanner.skipValue()
        fields.set(name, kind, value, body)
      }
      try scanner.finish()
    } catch {
      throw .invalidJSON(error)
    }
    guard isObject else { throw .bodyIsNotAnObject }
    if let flag = fields.wrongFlag { throw .invalidType(flag, expected: "a boolean") }
    return fields
  }

  /// The fields that an endpoint's prompt is made of: an unknown field of the other kind counts for nothing.
  package func limited(to endpoint: Endpoint) -> PromptFields {
    var fields = self
    switch endpoint {
    case .chatCompletions, .messages, .countTokens: fields.prompt = nil
    case .completions: fields.messages = nil
    // No template of a chat or text of a completion makes these.
    case .embeddings, .responses, .rerank, .score:
      fields.prompt = nil
      fields.messages = nil
    }
    return fields
  }

  private var wrongFlag: String?

  private mutating func set(
    _ name: String, _ kind: JSONKind, _ value: Range<Int>, _ body: UnsafeRawBufferPointer
  ) {
    let given: Range<Int>? = if case .null = kind { nil } else { value }
    switch name {
    case "messages": messages = given
    case "tools": tools = given
    case "documents": documents = given
    case "chat_template_kwargs": templateArguments = given
    case "reasoning_effort": reasoningEffort = given
    case "prompt": prompt = given
    case "tokens": tokens = given
    case "chat_template": hasOwnTemplate = given != nil
    case "model":
      if case .string = kind {
        let inner = (value.lowerBound + 1)..<(value.upperBound - 1)
        model = JSONString(range: inner, hasEscapes: true).decoded(in: body)
      }
    case "add_generation_prompt": addGenerationPrompt = flag(name, kind)
    case "continue_final_message": continueFinalMessage = flag(name, kind)
    case "add_special_tokens": addSpecialTokens = flag(name, kind)
    case "return_token_strs": returnTokenStrings = flag(name, kind)
    default: break
    }
  }

  private mutating func flag(_ name: String, _ kind: JSONKind) -> Bool? {
    switch kind {
    case .true: return true
    case .false: return false
    case .null: return nil
    default:
      wrongFlag = name
      return nil
    }
  }
}
