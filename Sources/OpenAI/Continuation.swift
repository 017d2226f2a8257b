// Requests that go on behind what another worker generated: which can, what is asked of the next worker, and how a worker
// reads it.

package import Base
internal import JSON

extension InferenceRequest {
  /// Whether a stream of this request could go on at another worker, as far as the request says: one choice of plain text,
  /// of which the engine tells no more than the text, and whose form it does not enforce from the first token on. A
  /// completion must say how long it may be: engines give each one that does not a short length of its own.
  package func mayContinue(_ body: UnsafeRawBufferPointer) -> Bool {
    guard stream, choices == 1 else { return false }
    switch endpoint {
    case .chatCompletions: if messageCount == 0 { return false }
    case .completions: guard case .text = promptKind else { return false }
    default: return false
    }
    var hasLimit = endpoint == .chatCompletions
    var scanner = JSONScanner(body)
    do throws(JSONError) {
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let name = key.decoded(in: body)
        let isNumber = try scanner.kind() == .number
        let value = body.slice(try scanner.skipValue())
        if Self.hinders(name, value) { return false }
        if name == "max_tokens" { hasLimit = hasLimit || isNumber }
      }
      return hasLimit
    } catch {
      return false
    }
  }

  private static func hinders(_ name: String, _ value: UnsafeRawBufferPointer) -> Bool {
    if value.equals("null") || value.equals("false") { return false }
    switch name {
    case "best_of": return !value.equals("1")
    case "tool_choice": return !value.equals("\"auto\"") && !value.equals("\"none\"")
    case "response_format": return !isPlainFormat(value)
    case "logprobs", "top_logprobs", "prompt_logprobs", "echo", "suffix", "use_beam_search", "function_call",
      "continue_final_message", "structured_outputs", "return_token_ids",
      // SGLang's and llama-server's names for a form, and the latter's for the limit of tokens, which is not lowered.
      "regex", "ebnf", "json_schema", "structural_tag", "grammar", "n_predict":
      return true
    case "nvext": return hasForm(extension: value)
    case "add_generation_prompt": return !value.equals("true")
    default: return name.hasPrefix("guided_")
    }
  }

  /// Whether Dynamo's own member of a request asks for a form (`guided_…`).
  private static func hasForm(extension value: UnsafeRawBufferPointer) -> Bool {
    var scanner = JSONScanner(value)
    do throws(JSONError) {
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let isNull = try scanner.kind() == .null
        try scanner.skipValue()
        if !isNull, key.decoded(in: value).hasPrefix("guided_") { return true }
      }
      return false
    } catch {
      return true
    }
  }

  private static func isPlainFormat(_ value: UnsafeRawBufferPointer) -> Bool {
    do throws(JSONError) { return try JSONValue.parse(value)["type"]?.string == "text" } catch {
      return false
    }
  }

  /// Appends the body by which another worker goes on behind `text`, of `tokens` tokens: the text as the begun answer, and
  /// the limits of tokens lowered. False when there is nothing left to generate, or the body has no place for the text.
  package func writeContinuation(
    of body: UnsafeRawBufferPointer, text: UnsafeRawBufferPointer, tokens: Int, into output: inout ByteBuffer
  ) -> Bool {
    var copied = 0
    func copy(to end: Int) {
      output.append(body.slice(copied..<end))
      copied = end
    }
    var hasPlace = false
    // Keys that the caller gave: they must not stand there twice.
    var continues = false
    var generates = false
    var scanner = JSONScanner(body)
    do throws(JSONError) {
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let name = key.decoded(in: body)
        let isNumber = try scanner.kind() == .number
        let value = try scanner.skipValue()
        switch name {
        case "messages" where endpoint == .chatCompletions:
          hasPlace = true
          guard !text.isEmpty else { break }
          copy(to: value.upperBound - 1)
          output.append(",{\"role\":\"assistant\",\"content\":\"" as StaticString)
          output.append(jsonContents: text)
          output.append("\"}" as StaticString)
        case "prompt" where endpoint == .completions:
          hasPlace = true
          copy(to: value.upperBound - 1)
          output.append(jsonContents: text)
        case "max_tokens" where isNumber, "max_completion_tokens" where isNumber:
          guard let limit = Int(body.slice(value).text), limit > tokens else { return false }
          copy(to: value.lowerBound)
          output.append(decimal: limit - tokens)
          copied = value.upperBound
        case "min_tokens" where isNumber:
          guard let least = Int(body.slice(value).text) else { break }
          copy(to: value.lowerBound)
          // Nobody has checked the number: it may be the least there is.
          output.append(decimal: least > tokens ? least - tokens : 0)
          copied = value.upperBound
        case "continue_final_message", "add_generation_prompt":
          guard !text.isEmpty else { break }
          copy(to: value.lowerBound)
          output.append(name == "continue_final_message" ? "true" as StaticString : "false")
          copied = value.upperBound
        default: break
        }
        if name == "continue_final_message" { continues = true }
        if name == "add_generation_prompt" { generates = true }
      }
    } catch {
      return false
    }
    copy(to: closingBrace)
    if endpoint == .chatCompletions, !text.isEmpty {
      if !continues { output.append(",\"continue_final_message\":true" as StaticString) }
      if !generates { output.append(",\"add_generation_prompt\":false" as StaticString) }
    }
    copy(to: body.count)
    return hasPlace
  }
}

/// A chat whose last message is an answer that was begun (`continue_final_message`), taken apart.
package struct ContinuedChat: ~Copyable {
  /// The body without that message.
  package private(set) var body = ByteBuffer()
  /// What of the answer is there.
  package private(set) var text: [UInt8] = []

  /// Nil where the body asks for no such thing, or has no message before the last.
  package init?(_ whole: UnsafeRawBufferPointer) {
    var isAsked = false
    var last: Range<Int>?
    var previousEnd: Int?
    var scanner = JSONScanner(whole)
    do throws(JSONError) {
      guard try scanner.kind() == .object else { return nil }
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        if key.equals("continue_final_message", in: whole) {
          isAsked = try scanner.kind() == .true
          try scanner.skipValue()
        } else if key.equals("messages", in: whole), try scanner.kind() == .array {
          try scanner.openArray()
          while try scanner.nextElement() {
            previousEnd = last?.upperBound
            last = try scanner.skipValue()
          }
        } else {
          try scanner.skipValue()
        }
      }
      guard isAsked, let last, let previousEnd,
        let message = try? JSONValue.parse(whole.slice(last)), message["role"]?.string == "assistant",
        let content = message["content"]?.string
      else { return nil }
      text = Array(content.utf8)
      body.append(whole.slice(0..<previousEnd))
      body.append(whole.slice(last.upperBound..<whole.count))
    } catch {
      return nil
    }
  }
}
