// Renders chat templates from lines of JSON: how tests in other languages reach the template engine.

internal import Base
internal import JSON
internal import Tokenizer

/// Turns one line of JSON into another: a request into `{"text": …}` or `{"error": …, "reason": …, "line": …}`.
///
/// Members of a request: `messages`, `tools`, `chat_template_kwargs`, `documents`, `reasoning_effort`,
/// `add_generation_prompt`, `continue_final_message`, `bos_token`, `eos_token`, `now`, `utc_offset`, `rules` (an
/// engine's name), and `template` in place of the one given at the start.
struct LineRenderer {
  private var source: String
  private var template: Result<ChatTemplate, ChatTemplateError>

  init(source: String) {
    self.source = source
    template = LineRenderer.compiled(source)
  }

  private static func compiled(_ source: String) -> Result<ChatTemplate, ChatTemplateError> {
    do throws(ChatTemplateError) {
      return .success(try ChatTemplate(source: source))
    } catch {
      return .failure(error)
    }
  }

  /// Appends the answer to `line` with a newline.
  mutating func answer(_ line: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    var text = ByteBuffer()
    do throws(ChatTemplateError) {
      try render(line, into: &text)
      out.append("{\"text\":" as StaticString)
      out.append(jsonString: text.readable)
    } catch {
      out.append("{\"error\":" as StaticString)
      out.append(jsonString: error.message)
      out.append(",\"reason\":" as StaticString)
      out.append(jsonString: error.reason.rawValue)
      out.append(",\"line\":" as StaticString)
      out.append(decimal: error.line)
    }
    out.append("}\n" as StaticString)
  }

  private mutating func render(
    _ line: UnsafeRawBufferPointer, into out: inout ByteBuffer
  ) throws(ChatTemplateError) {
    var request = ChatTemplateRequest(messages: line.slice(0..<0))
    var rules = ChatTemplateRules(.huggingFace)
    var seconds = 0
    var offset = 0
    var replacement: String?
    do throws(JSONError) {
      var scanner = JSONScanner(line)
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let range = try scanner.skipValue()
        let bytes = line.slice(range)
        switch key.decoded(in: line) {
        case "messages": request.messages = bytes
        case "tools": request.tools = bytes
        case "chat_template_kwargs": request.extra = bytes
        case "documents": request.documents = bytes
        case "reasoning_effort": request.reasoningEffort = bytes
        case "add_generation_prompt": request.addGenerationPrompt = bytes.equals("true")
        case "continue_final_message": request.continueFinalMessage = bytes.equals("true")
        case "bos_token": request.bosToken = try JSONValue.parse(bytes).string
        case "eos_token": request.eosToken = try JSONValue.parse(bytes).string
        case "now": seconds = try JSONValue.parse(bytes).integer ?? 0
        case "utc_offset": offset = try JSONValue.parse(bytes).integer ?? 0
        case "template": replacement = try JSONValue.parse(bytes).string
        case "rules":
          let name = try JSONValue.parse(bytes).string ?? ""
          rules = ChatTemplateRules(ChatTemplateRules.Engine(rawValue: name) ?? .huggingFace)
        default: break
        }
      }
      try scanner.finish()
    } catch {
      throw ChatTemplateError(.input, "the line is no request: \(error.explanation)")
    }
    if let replacement, replacement != source {
      source = replacement
      template = LineRenderer.compiled(replacement)
    }
    request.now = ChatTemplateTime(seconds: seconds, utcOffset: offset)
    try template.get().render(request, rules: rules, into: &out)
  }
}
