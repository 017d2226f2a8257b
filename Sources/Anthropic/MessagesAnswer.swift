// A whole chat completion as a message of Anthropic's API, and a worker's error in its form.

package import Base
internal import JSON
internal import OpenAI

/// Translates answers that are not streamed.
package enum MessagesAnswer {
  /// Appends the message that says what the chat completion `answer` says; false when that is none.
  ///
  /// - Parameters:
  ///   - id: the request's id; the message's is `msg_` and this.
  ///   - model: the name that the caller used.
  package static func write(
    _ answer: UnsafeRawBufferPointer, id: String, model: String, into out: inout ByteBuffer
  ) -> Bool {
    guard let members = try? Members.read(whole: answer),
      let choice = try? members["choices"]?.elements()?.first?.members(),
      let message = try? choice["message"]?.members()
    else { return false }
    out.append("{\"id\":\"msg_" as StaticString)
    out.append(jsonContents: id)
    out.append("\",\"type\":\"message\",\"role\":\"assistant\",\"model\":" as StaticString)
    out.append(jsonString: model)
    out.append(",\"content\":[" as StaticString)
    let usedTool = writeContent(message, into: &out)
    out.append("],\"stop_reason\":" as StaticString)
    let summary = AnswerSummary.parse(answer)
    let sequence = choice["stop_reason"]?.contents
    Stop(summary?.finishReason ?? .none, sequence: sequence, usedTool: usedTool).write(into: &out)
    out.append(",\"usage\":" as StaticString)
    out.append(messagesUsage: summary?.usage)
    out.append(UInt8(ascii: "}"))
    return true
  }

  /// Appends the blocks; true when one of them is a tool's call.
  private static func writeContent(_ message: Members, into out: inout ByteBuffer) -> Bool {
    var isFirst = true
    var usedTool = false
    func begin(_ text: StaticString) {
      if !isFirst { out.append(UInt8(ascii: ",")) }
      isFirst = false
      out.append(text)
    }
    if let thoughts = (message["reasoning_content"] ?? message["reasoning"]), !thoughts.isEmptyText {
      begin("{\"type\":\"thinking\",\"thinking\":")
      out.append(thoughts)
      out.append(",\"signature\":\"\"}" as StaticString)
    }
    let calls = (try? message["tool_calls"]?.elements()) ?? []
    if let text = [message["content"], message["refusal"]].compactMap({ $0 }).first(where: { !$0.isEmptyText }
    ) {
      begin("{\"type\":\"text\",\"text\":")
      out.append(text)
      out.append(UInt8(ascii: "}"))
    }
    for call in calls {
      guard let call = try? call.members(), let function = try? call["function"]?.members(),
        let name = function["name"], name.contents != nil
      else { continue }
      usedTool = true
      begin("{\"type\":\"tool_use\",\"id\":")
      if let id = call["id"], id.contents != nil {
        out.append(id)
      } else {
        out.append("\"\"" as StaticString)
      }
      out.append(",\"name\":" as StaticString)
      out.append(name)
      out.append(",\"input\":" as StaticString)
      writeArguments(function["arguments"], into: &out)
      out.append(UInt8(ascii: "}"))
    }
    return usedTool
  }

  /// The object that a text of arguments is; one that is no JSON object is wrapped as Anthropic's documentation wraps it.
  private static func writeArguments(_ arguments: RawValue?, into out: inout ByteBuffer) {
    var text = ByteBuffer()
    if let contents = arguments?.contents { text.append(decoding: contents) }
    if text.isEmpty { return out.append("{}" as StaticString) }
    if (try? Members.read(whole: text.readable)) != nil { return out.append(minified: text.readable) }
    out.append("{\"INVALID_JSON\":" as StaticString)
    out.append(jsonString: text.readable)
    out.append(UInt8(ascii: "}"))
  }

  /// Appends a worker's error answer in Anthropic's form: its own words where it is of OpenAI's form.
  package static func writeError(
    _ answer: UnsafeRawBufferPointer, status: Int, into out: inout ByteBuffer
  ) {
    var message: String?
    if let members = try? Members.read(whole: answer) {
      // OpenAI's envelope, or Dynamo's and FastAPI's flat objects.
      message = (try? members["error"]?.members()?["message"]?.text) ?? nil
      message = message ?? members["message"]?.text ?? members["detail"]?.text ?? members["error"]?.text
    }
    APIError(status: status, code: nil, message: message ?? "The worker answered with status \(status).")
      .write(into: &out, format: .anthropic)
  }
}

/// Why a message ended.
struct Stop {
  private let reason: StaticString?
  /// The contents of the JSON string that ended it.
  private let sequence: UnsafeRawBufferPointer?

  /// - Parameters:
  ///   - sequence: what vLLM says in `stop_reason`: the text that ended the answer.
  ///   - usedTool: the message calls a tool. Where the caller chose which, OpenAI and vLLM say `stop`.
  init(_ finish: CompletionFinish, sequence: UnsafeRawBufferPointer?, usedTool: Bool) {
    switch finish {
    case .none: reason = nil
    case .stop where usedTool && sequence == nil: reason = "tool_use"
    case .stop: reason = sequence == nil ? "end_turn" : "stop_sequence"
    case .length: reason = "max_tokens"
    case .toolCalls, .functionCall: reason = "tool_use"
    case .contentFilter: reason = "refusal"
    case .abort, .error, .other: reason = "end_turn"
    }
    if case .stop = finish { self.sequence = sequence } else { self.sequence = nil }
  }

  /// Appends the value of `stop_reason`, and the member `stop_sequence`.
  func write(into out: inout ByteBuffer) {
    if let reason {
      out.append(UInt8(ascii: "\""))
      out.append(reason)
      out.append(UInt8(ascii: "\""))
    } else {
      out.append("null" as StaticString)
    }
    out.append(",\"stop_sequence\":" as StaticString)
    if let sequence {
      out.append(UInt8(ascii: "\""))
      out.append(sequence)
      out.append(UInt8(ascii: "\""))
    } else {
      out.append("null" as StaticString)
    }
  }
}

extension RawValue {
  /// True for an empty string, and for what is no string.
  var isEmptyText: Bool { contents?.isEmpty ?? true }
}

extension ByteBuffer {
  /// Appends usage in Anthropic's form, in which tokens read from the cache are counted beside the input.
  mutating func append(messagesUsage usage: Usage?) {
    let cached = min(usage?.cachedTokens ?? 0, usage?.promptTokens ?? 0)
    append("{\"input_tokens\":" as StaticString)
    append(decimal: (usage?.promptTokens ?? 0) - cached)
    append(",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":" as StaticString)
    append(decimal: cached)
    append(",\"output_tokens\":" as StaticString)
    append(decimal: usage?.completionTokens ?? 0)
    append(UInt8(ascii: "}"))
  }
}
