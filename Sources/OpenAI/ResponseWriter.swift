// Writes the answers of the Responses API, whole or as events, as the simulated worker sends them.

package import Base
internal import JSON

/// One response with one message. Order of a stream: ``writeStart(into:)``, texts, ``writeEnd(_:usage:into:)``.
package struct ResponseWriter: ~Copyable {
  private let id: String
  private let created: Int
  private let model: String
  private var sequence = 0
  /// The text so far, which the last events repeat.
  private var text = ByteBuffer()

  /// - Parameters:
  ///   - id: the request's id; the response's is `resp_` and this, its message's `msg_` and this.
  ///   - created: Unix time in seconds.
  package init(id: String, created: Int, model: String) {
    self.id = id
    self.created = created
    self.model = model
  }

  // MARK: Whole

  /// Appends the whole answer.
  package mutating func write(
    _ text: [UInt8], _ finish: CompletionFinish, usage: Usage, into buffer: inout ByteBuffer
  ) {
    text.withUnsafeBytes { self.text.append($0) }
    append(finish, usage: usage, to: &buffer)
  }

  // MARK: Events

  /// Appends the events before the first text.
  package mutating func writeStart(into buffer: inout ByteBuffer) {
    for event in ["response.created", "response.in_progress"] as [StaticString] {
      open(event, &buffer)
      buffer.append(",\"response\":" as StaticString)
      append(nil, usage: nil, to: &buffer)
      close(&buffer)
    }
    open("response.output_item.added", &buffer)
    buffer.append(",\"output_index\":0,\"item\":" as StaticString)
    appendMessage("in_progress", hasText: false, to: &buffer)
    close(&buffer)
    open("response.content_part.added", &buffer)
    place(&buffer)
    buffer.append(",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}" as StaticString)
    close(&buffer)
  }

  /// Appends an event with text in UTF-8.
  package mutating func writeText(_ text: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) {
    self.text.append(text)
    open("response.output_text.delta", &buffer)
    place(&buffer)
    buffer.append(",\"delta\":" as StaticString)
    buffer.append(jsonString: text)
    buffer.append(",\"logprobs\":[]" as StaticString)
    close(&buffer)
  }

  /// Appends the events that end the stream.
  package mutating func writeEnd(_ finish: CompletionFinish, usage: Usage, into buffer: inout ByteBuffer) {
    open("response.output_text.done", &buffer)
    place(&buffer)
    buffer.append(",\"text\":" as StaticString)
    buffer.append(jsonString: text.readable)
    buffer.append(",\"logprobs\":[]" as StaticString)
    close(&buffer)
    open("response.content_part.done", &buffer)
    place(&buffer)
    buffer.append(",\"part\":" as StaticString)
    appendPart(to: &buffer)
    close(&buffer)
    open("response.output_item.done", &buffer)
    buffer.append(",\"output_index\":0,\"item\":" as StaticString)
    appendMessage(Self.status(finish), hasText: true, to: &buffer)
    close(&buffer)
    open(finish == .length ? "response.incomplete" : "response.completed", &buffer)
    buffer.append(",\"response\":" as StaticString)
    append(finish, usage: usage, to: &buffer)
    close(&buffer)
  }

  private mutating func open(_ event: StaticString, _ buffer: inout ByteBuffer) {
    buffer.append("event: " as StaticString)
    buffer.append(event)
    buffer.append("\ndata: {\"type\":\"" as StaticString)
    buffer.append(event)
    buffer.append("\",\"sequence_number\":" as StaticString)
    buffer.append(decimal: sequence)
    sequence += 1
  }

  private func close(_ buffer: inout ByteBuffer) { buffer.append("}\n\n" as StaticString) }

  /// Where in the output the event's text lies.
  private func place(_ buffer: inout ByteBuffer) {
    buffer.append(",\"item_id\":\"msg_" as StaticString)
    buffer.append(jsonContents: id)
    buffer.append("\",\"output_index\":0,\"content_index\":0" as StaticString)
  }

  // MARK: Objects

  private static func status(_ finish: CompletionFinish?) -> StaticString {
    switch finish {
    case nil: "in_progress"
    case .length: "incomplete"
    default: "completed"
    }
  }

  private func append(_ finish: CompletionFinish?, usage: Usage?, to buffer: inout ByteBuffer) {
    buffer.append("{\"id\":\"resp_" as StaticString)
    buffer.append(jsonContents: id)
    buffer.append("\",\"object\":\"response\",\"created_at\":" as StaticString)
    buffer.append(decimal: created)
    buffer.append(",\"status\":\"" as StaticString)
    buffer.append(Self.status(finish))
    buffer.append("\",\"error\":null,\"incomplete_details\":" as StaticString)
    buffer.append(finish == .length ? "{\"reason\":\"max_output_tokens\"}" as StaticString : "null")
    buffer.append(",\"instructions\":null,\"metadata\":{},\"model\":" as StaticString)
    buffer.append(jsonString: model)
    buffer.append(",\"output\":[" as StaticString)
    if finish != nil { appendMessage(Self.status(finish), hasText: true, to: &buffer) }
    buffer.append(
      "],\"parallel_tool_calls\":true,\"temperature\":1.0,\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0"
        as StaticString)
    buffer.append(",\"usage\":" as StaticString)
    if let usage { appendUsage(usage, to: &buffer) } else { buffer.append("null" as StaticString) }
    buffer.append(UInt8(ascii: "}"))
  }

  private func appendMessage(_ status: StaticString, hasText: Bool, to buffer: inout ByteBuffer) {
    buffer.append("{\"type\":\"message\",\"id\":\"msg_" as StaticString)
    buffer.append(jsonContents: id)
    buffer.append("\",\"status\":\"" as StaticString)
    buffer.append(status)
    buffer.append("\",\"role\":\"assistant\",\"content\":[" as StaticString)
    if hasText { appendPart(to: &buffer) }
    buffer.append("]}" as StaticString)
  }

  private func appendPart(to buffer: inout ByteBuffer) {
    buffer.append("{\"type\":\"output_text\",\"text\":" as StaticString)
    buffer.append(jsonString: text.readable)
    buffer.append(",\"annotations\":[]}" as StaticString)
  }

  private func appendUsage(_ usage: Usage, to buffer: inout ByteBuffer) {
    buffer.append("{\"input_tokens\":" as StaticString)
    buffer.append(decimal: usage.promptTokens)
    buffer.append(",\"input_tokens_details\":{\"cached_tokens\":" as StaticString)
    buffer.append(decimal: usage.cachedTokens ?? 0)
    buffer.append("},\"output_tokens\":" as StaticString)
    buffer.append(decimal: usage.completionTokens)
    buffer.append(",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":" as StaticString)
    buffer.append(decimal: usage.promptTokens + usage.completionTokens)
    buffer.append(UInt8(ascii: "}"))
  }
}
