// Writes an answer that is not streamed, as the simulated worker sends it.

package import Base
internal import JSON

/// A `chat.completion` or `text_completion` body.
package struct CompletionAnswer: Sendable {
  /// One of the answers that `n` asked for.
  package struct Choice: Sendable {
    package let text: [UInt8]
    package let finishReason: CompletionFinish
    /// A call of a tool, of which `text` has the arguments; chat only.
    package let call: Call?
    /// Log probabilities as JSON; empty for none.
    package let logprobs: [UInt8]

    /// - Parameter text: UTF-8; bytes that are none are replaced when written.
    package init(text: [UInt8], finishReason: CompletionFinish, call: Call? = nil, logprobs: [UInt8] = []) {
      self.text = text
      self.finishReason = finishReason
      self.call = call
      self.logprobs = logprobs
    }
  }

  /// Which tool is called.
  package struct Call: Sendable {
    package let id: String
    package let name: String

    package init(id: String, name: String) {
      self.id = id
      self.name = name
    }
  }

  private let endpoint: Endpoint
  private let id: String
  private let created: Int
  private let model: String
  private let choices: [Choice]
  private let usage: Usage

  /// - Parameters:
  ///   - id: the request's id; the answer's id is `chatcmpl-` or `cmpl-` and this.
  ///   - created: Unix time in seconds.
  package init(endpoint: Endpoint, id: String, created: Int, model: String, choices: [Choice], usage: Usage) {
    self.endpoint = endpoint
    self.id = id
    self.created = created
    self.model = model
    self.choices = choices
    self.usage = usage
  }

  /// Appends the body.
  package func write(into buffer: inout ByteBuffer) {
    switch endpoint {
    case .chatCompletions:
      buffer.append(answerHead: endpoint, object: "chat.completion", id: id, created: created, model: model)
    default:
      buffer.append(answerHead: endpoint, object: "text_completion", id: id, created: created, model: model)
    }
    for (index, choice) in choices.enumerated() {
      buffer.append(index == 0 ? "{\"index\":" as StaticString : ",{\"index\":")
      buffer.append(decimal: index)
      switch endpoint {
      case .chatCompletions:
        buffer.append(",\"message\":{\"role\":\"assistant\",\"content\":" as StaticString)
        if let call = choice.call {
          buffer.append("\"\",\"refusal\":null,\"tool_calls\":[{" as StaticString)
          choice.text.withUnsafeBytes { buffer.append(call, arguments: $0) }
          buffer.append("}]}" as StaticString)
        } else {
          choice.text.withUnsafeBytes { buffer.append(jsonString: $0) }
          buffer.append(",\"refusal\":null}" as StaticString)
        }
      default:
        buffer.append(",\"text\":" as StaticString)
        choice.text.withUnsafeBytes { buffer.append(jsonString: $0) }
      }
      buffer.append(logprobs: choice.logprobs)
      buffer.append(choice.finishReason)
      buffer.append("}" as StaticString)
    }
    buffer.append("],\"usage\":" as StaticString)
    buffer.append(usage)
    buffer.append("}" as StaticString)
  }
}
