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
  /// Where the prompt's blocks are for another engine; nil where they are kept for nobody.
  package var transfer: KeptBlocks?

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
    if let transfer { buffer.append(transfer) }
    buffer.append("}" as StaticString)
  }
}

/// Where another engine finds the blocks of a prompt (vLLM's `kv_transfer_params` of an answer).
package struct KeptBlocks: Sendable {
  package let engine: String
  package let host: String
  package let port: Int
  /// The engine's names of the blocks, the prompt's first ones first.
  package let blocks: [Int]

  package init(engine: String, host: String, port: Int, blocks: [Int]) {
    self.engine = engine
    self.host = host
    self.port = port
    self.blocks = blocks
  }
}

extension ByteBuffer {
  fileprivate mutating func append(_ kept: KeptBlocks) {
    append(",\"kv_transfer_params\":{\"do_remote_prefill\":true,\"do_remote_decode\":false," as StaticString)
    append("\"remote_engine_id\":" as StaticString)
    append(jsonString: kept.engine)
    append(",\"remote_block_ids\":[" as StaticString)
    for (index, block) in kept.blocks.enumerated() {
      if index > 0 { append(UInt8(ascii: ",")) }
      append(decimal: block)
    }
    append("],\"remote_host\":" as StaticString)
    append(jsonString: kept.host)
    append(",\"remote_port\":" as StaticString)
    append(decimal: kept.port)
    append(UInt8(ascii: "}"))
  }
}
