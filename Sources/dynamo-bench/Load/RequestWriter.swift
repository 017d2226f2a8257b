// The requests that the load generator sends, with members in the order in which OpenAI's Python SDK writes them.

import Base

/// Writes complete HTTP/1.1 requests, each with a new prompt.
final class RequestWriter {
  private let options: LoadOptions
  private let model: String
  private var prompts: PromptSource
  private var random: Xoshiro256
  private var body = ByteBuffer(capacity: 4096)

  init(_ options: LoadOptions, seed: UInt64) {
    self.options = options
    model = quoted(options.model)
    prompts = PromptSource(
      words: options.workload.promptWords, groups: options.workload.prefixGroups, seed: seed)
    random = Xoshiro256(seed: seed ^ 0x5eed)
  }

  /// Appends the next request for the server named `authority`.
  func append(to out: inout ByteBuffer, authority: String) {
    writeBody()
    out.append("POST /v1/chat/completions HTTP/1.1\r\nhost: " as StaticString)
    out.append(authority)
    out.append("\r\nuser-agent: dynamo-bench\r\ncontent-type: application/json\r\naccept: " as StaticString)
    out.append((options.workload.stream ? "text/event-stream" : "application/json") as StaticString)
    if options.requestIDs {
      out.append("\r\nx-request-id: " as StaticString)
      out.append(UUID(using: &random))
    }
    if !options.keepAlive { out.append("\r\nconnection: close" as StaticString) }
    out.append("\r\ncontent-length: " as StaticString)
    out.append(decimal: body.count)
    out.append("\r\n\r\n" as StaticString)
    out.append(body.readable)
  }

  private func writeBody() {
    body.removeAll()
    body.append("{\"messages\":[{\"role\":\"user\",\"content\":\"" as StaticString)
    prompts.append(to: &body)
    body.append("\"}],\"model\":" as StaticString)
    body.append(model)
    body.append(",\"max_tokens\":" as StaticString)
    body.append(decimal: options.workload.tokens)
    body.append((options.workload.stream ? ",\"stream\":true" : ",\"stream\":false") as StaticString)
    if options.includeUsage, options.workload.stream {
      body.append(",\"stream_options\":{\"include_usage\":true}" as StaticString)
    }
    body.append(UInt8(ascii: "}"))
  }
}
