// Writes the events of a streamed answer, as the simulated worker sends them.

package import Base
internal import JSON

/// Writes `chat.completion.chunk` or `text_completion` events of one answer. What all of them share is built once.
///
/// Order for a chat: ``writeRole(choice:usage:into:)``, texts, ``writeFinish(_:choice:into:)``, ``writeUsage(_:into:)`` when
/// it was asked for, ``writeDone(into:)``. A completion has no role event.
package struct CompletionStreamWriter: ~Copyable {
  private let endpoint: Endpoint
  private let sendsUsage: Bool
  private var prefix = ByteBuffer()

  /// - Parameters:
  ///   - id: the request's id; the answer's id is `chatcmpl-` or `cmpl-` and this.
  ///   - created: Unix time in seconds.
  ///   - sendsUsage: whether usage was asked for; then every chunk has the member, null until the last.
  package init(endpoint: Endpoint, id: String, created: Int, model: String, sendsUsage: Bool) {
    self.endpoint = endpoint
    self.sendsUsage = sendsUsage
    prefix.append("data: " as StaticString)
    switch endpoint {
    case .chatCompletions:
      prefix.append(
        answerHead: endpoint, object: "chat.completion.chunk", id: id, created: created, model: model)
    default:
      prefix.append(answerHead: endpoint, object: "text_completion", id: id, created: created, model: model)
    }
  }

  /// Appends the first event of a chat's choice, which names the role and holds no text; nothing for a completion.
  package func writeRole(choice: Int = 0, usage: Usage? = nil, into buffer: inout ByteBuffer) {
    guard case .chatCompletions = endpoint else { return }
    open(choice, into: &buffer)
    buffer.append("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}" as StaticString)
    close(nil, usage: usage, into: &buffer)
  }

  /// Appends an event with text; `usage` as it stands after it, for callers that asked for continuous figures, and
  /// `logprobs` as JSON for those that asked for these.
  package func writeText(
    _ text: UnsafeRawBufferPointer, choice: Int = 0, usage: Usage? = nil, logprobs: [UInt8] = [],
    into buffer: inout ByteBuffer
  ) {
    open(choice, into: &buffer)
    switch endpoint {
    case .chatCompletions:
      buffer.append("\"delta\":{\"content\":\"" as StaticString)
      buffer.append(jsonContents: text)
      buffer.append("\"}" as StaticString)
    default:
      buffer.append("\"text\":\"" as StaticString)
      buffer.append(jsonContents: text)
      buffer.append("\"" as StaticString)
    }
    close(nil, usage: usage, logprobs: logprobs, into: &buffer)
  }

  /// Appends the event that begins a chat's call of a tool, as vLLM does.
  package func writeCall(_ call: CompletionAnswer.Call, choice: Int = 0, into buffer: inout ByteBuffer) {
    open(choice, into: &buffer)
    buffer.append("\"delta\":{\"tool_calls\":[{\"index\":0," as StaticString)
    buffer.append(call, arguments: UnsafeRawBufferPointer(start: nil, count: 0))
    buffer.append("}]}" as StaticString)
    close(nil, usage: nil, into: &buffer)
  }

  /// Appends an event with a part of the call's arguments.
  package func writeArguments(
    _ text: UnsafeRawBufferPointer, choice: Int = 0, usage: Usage? = nil, logprobs: [UInt8] = [],
    into buffer: inout ByteBuffer
  ) {
    open(choice, into: &buffer)
    buffer.append("\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":" as StaticString)
    buffer.append(jsonString: text)
    buffer.append("}}]}" as StaticString)
    close(nil, usage: usage, logprobs: logprobs, into: &buffer)
  }

  /// Appends the event that ends a choice.
  package func writeFinish(_ reason: CompletionFinish, choice: Int = 0, into buffer: inout ByteBuffer) {
    open(choice, into: &buffer)
    switch endpoint {
    case .chatCompletions: buffer.append("\"delta\":{}" as StaticString)
    default: buffer.append("\"text\":\"\"" as StaticString)
    }
    close(reason, usage: nil, into: &buffer)
  }

  /// Appends the event that tells the usage and has no choices.
  package func writeUsage(_ usage: Usage, into buffer: inout ByteBuffer) {
    buffer.append(prefix.readable)
    buffer.append("],\"usage\":" as StaticString)
    buffer.append(usage)
    buffer.append("}\n\n" as StaticString)
  }

  /// Appends the end mark.
  package static func writeDone(into buffer: inout ByteBuffer) {
    buffer.append("data: [DONE]\n\n" as StaticString)
  }

  private func open(_ choice: Int, into buffer: inout ByteBuffer) {
    buffer.append(prefix.readable)
    buffer.append("{\"index\":" as StaticString)
    buffer.append(decimal: choice)
    buffer.append(UInt8(ascii: ","))
  }

  private func close(
    _ reason: CompletionFinish?, usage: Usage?, logprobs: [UInt8] = [], into buffer: inout ByteBuffer
  ) {
    buffer.append(logprobs: logprobs)
    buffer.append(reason ?? .none)
    if let usage {
      buffer.append("}],\"usage\":" as StaticString)
      buffer.append(usage)
      buffer.append("}\n\n" as StaticString)
    } else {
      buffer.append(sendsUsage ? "}],\"usage\":null}\n\n" as StaticString : "}]}\n\n")
    }
  }
}

extension ByteBuffer {
  /// Appends an answer's members up to the opening bracket of its choices.
  mutating func append(
    answerHead endpoint: Endpoint, object: StaticString, id: String, created: Int, model: String
  ) {
    switch endpoint {
    case .chatCompletions: append("{\"id\":\"chatcmpl-" as StaticString)
    default: append("{\"id\":\"cmpl-" as StaticString)
    }
    append(jsonContents: id)
    append("\",\"object\":\"" as StaticString)
    append(object)
    append("\",\"created\":" as StaticString)
    append(decimal: created)
    append(",\"model\":" as StaticString)
    append(jsonString: model)
    append(",\"choices\":[" as StaticString)
  }

  /// Appends a choice's log probabilities, JSON or empty for none, and the next member's key.
  mutating func append(logprobs: [UInt8]) {
    if logprobs.isEmpty { return append(",\"logprobs\":null,\"finish_reason\":" as StaticString) }
    append(",\"logprobs\":" as StaticString)
    append(logprobs)
    append(",\"finish_reason\":" as StaticString)
  }

  /// Appends what a call of a tool says, without its brackets.
  mutating func append(_ call: CompletionAnswer.Call, arguments: UnsafeRawBufferPointer) {
    append("\"id\":" as StaticString)
    append(jsonString: call.id)
    append(",\"type\":\"function\",\"function\":{\"name\":" as StaticString)
    append(jsonString: call.name)
    append(",\"arguments\":" as StaticString)
    append(jsonString: arguments)
    append(UInt8(ascii: "}"))
  }

  /// Appends a finish reason as JSON, null when there is none.
  mutating func append(_ reason: CompletionFinish) {
    guard let name = reason.name else { return append("null" as StaticString) }
    append(UInt8(ascii: "\""))
    append(name)
    append(UInt8(ascii: "\""))
  }
}
