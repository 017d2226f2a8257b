// A stream of chat completion chunks as the events of Anthropic's Messages API.

package import Base
internal import JSON
internal import OpenAI

/// Takes the payloads of a stream's events one by one and appends the events that say the same.
///
///     waiting ──▶ open ──▶ over          waiting and open: a payload may end the stream at once (error)
///
/// Blocks are numbered in the order in which they begin. One of text or thoughts ends when the next block begins; one of
/// a tool's call ends then too, but what still comes for it is told with its own number.
package struct MessagesStream: ~Copyable {
  private enum Block: Equatable { case none, text, thinking, tool }

  /// Most calls of tools in one message. With one more the message cannot be told whole: ``hasTooManyCalls``.
  package static let callsMax = 128

  private let id: String
  private let model: String
  private var hasStarted = false
  private var open = Block.none
  private var blocks = 0
  /// The block of each call, by the call's index in the chat.
  private var calls: [(index: Int, block: Int)] = []
  private var usage: Usage?
  private var chunks = 0
  private var finish = CompletionFinish.none
  /// The contents of the JSON string that ended the answer.
  private var stopSequence: [UInt8]?
  /// The last event was written.
  package private(set) var isOver = false
  /// A call beyond the bound came. Nothing was told of it, and nothing should be from here on but an error.
  package private(set) var hasTooManyCalls = false

  /// - Parameters:
  ///   - id: the request's id; the message's is `msg_` and this.
  ///   - model: the name that the caller used.
  package init(id: String, model: String) {
    self.id = id
    self.model = model
  }

  /// Takes one payload.
  package mutating func receive(_ data: UnsafeRawBufferPointer, into out: inout ByteBuffer) {
    if isOver { return }
    if data.equals("[DONE]") { return end(into: &out) }
    guard let chunk = try? Members.read(whole: data) else { return }
    if let error = chunk["error"] {
      return fail(error, data, into: &out)
    }
    if let counts = chunk["usage"] { takeUsage(counts) }
    let choice = (try? chunk["choices"]?.elements()?.first?.members()) ?? nil
    guard let choice else { return }
    start(into: &out)
    if let delta = try? choice["delta"]?.members() { take(delta, into: &out) }
    if let word = choice["finish_reason"]?.contents { finish = CompletionFinish(word) }
    if let stop = choice["stop_reason"]?.contents { stopSequence = Array(stop) }
  }

  /// The worker's stream is complete: appends the message's end, unless it was.
  package mutating func end(into out: inout ByteBuffer) {
    if isOver { return }
    isOver = true
    start(into: &out)
    closeBlock(into: &out)
    event("message_delta", into: &out)
    out.append(",\"delta\":{\"stop_reason\":" as StaticString)
    let usage = usage ?? Usage(promptTokens: 0, completionTokens: chunks)
    if let stopSequence {
      stopSequence.withUnsafeBytes { Stop(finish, sequence: $0, usedTool: !calls.isEmpty).write(into: &out) }
    } else {
      Stop(finish, sequence: nil, usedTool: !calls.isEmpty).write(into: &out)
    }
    out.append("},\"usage\":" as StaticString)
    out.append(messagesUsage: usage)
    close(into: &out)
    event("message_stop", into: &out)
    close(into: &out)
  }

  /// Nothing more is told: somebody else says why.
  package mutating func abandon() { isOver = true }

  // MARK: Events

  private func event(_ type: StaticString, into out: inout ByteBuffer) {
    out.append("event: " as StaticString)
    out.append(type)
    out.append("\ndata: {\"type\":\"" as StaticString)
    out.append(type)
    out.append(UInt8(ascii: "\""))
  }

  private func close(into out: inout ByteBuffer) { out.append("}\n\n" as StaticString) }

  private mutating func start(into out: inout ByteBuffer) {
    if hasStarted { return }
    hasStarted = true
    event("message_start", into: &out)
    out.append(",\"message\":{\"id\":\"msg_" as StaticString)
    out.append(jsonContents: id)
    out.append("\",\"type\":\"message\",\"role\":\"assistant\",\"model\":" as StaticString)
    out.append(jsonString: model)
    out.append(",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":" as StaticString)
    out.append(messagesUsage: usage)
    out.append(UInt8(ascii: "}"))
    close(into: &out)
  }

  private mutating func fail(
    _ error: RawValue, _ data: UnsafeRawBufferPointer, into out: inout ByteBuffer
  ) {
    isOver = true
    let code = (try? error.members()?["code"]) ?? nil
    var status = 500
    if let code, case .number = code.kind, let number = Int(code.bytes.text), (400..<600).contains(number) {
      status = number
    }
    out.append("event: error\ndata: " as StaticString)
    MessagesAnswer.writeError(data, status: status, into: &out)
    out.append("\n\n" as StaticString)
  }

  // MARK: Blocks

  private mutating func take(_ delta: Members, into out: inout ByteBuffer) {
    if let thoughts = delta["reasoning_content"] ?? delta["reasoning"], let text = thoughts.contents,
      !text.isEmpty
    {
      chunks += 1
      begin(.thinking, into: &out)
      writeDelta("thinking_delta", "thinking", text, block: blocks - 1, into: &out)
    }
    for key in ["content", "refusal"] as [StaticString] {
      guard let text = delta[key]?.contents, !text.isEmpty else { continue }
      chunks += 1
      begin(.text, into: &out)
      writeDelta("text_delta", "text", text, block: blocks - 1, into: &out)
    }
    for call in (try? delta["tool_calls"]?.elements()) ?? [] {
      if let call = try? call.members() { take(call: call, into: &out) }
    }
  }

  private mutating func begin(_ block: Block, into out: inout ByteBuffer) {
    if open == block { return }
    closeBlock(into: &out)
    open = block
    openBlock(into: &out)
    out.append(
      block == .text
        ? "{\"type\":\"text\",\"text\":\"\"}" as StaticString
        : "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")
    close(into: &out)
  }

  /// Appends the beginning of a block's first event.
  private mutating func openBlock(into out: inout ByteBuffer) {
    event("content_block_start", into: &out)
    out.append(",\"index\":" as StaticString)
    out.append(decimal: blocks)
    out.append(",\"content_block\":" as StaticString)
    blocks += 1
  }

  private mutating func closeBlock(into out: inout ByteBuffer) {
    if open == .none { return }
    open = .none
    event("content_block_stop", into: &out)
    out.append(",\"index\":" as StaticString)
    out.append(decimal: blocks - 1)
    close(into: &out)
  }

  private func writeDelta(
    _ type: StaticString, _ member: StaticString, _ text: UnsafeRawBufferPointer, block: Int,
    into out: inout ByteBuffer
  ) {
    event("content_block_delta", into: &out)
    out.append(",\"index\":" as StaticString)
    out.append(decimal: block)
    out.append(",\"delta\":{\"type\":\"" as StaticString)
    out.append(type)
    out.append("\",\"" as StaticString)
    out.append(member)
    out.append("\":\"" as StaticString)
    out.append(text)
    out.append("\"}" as StaticString)
    close(into: &out)
  }

  private mutating func take(call: Members, into out: inout ByteBuffer) {
    chunks += 1
    var index = 0
    if let number = call["index"], case .number = number.kind { index = Int(number.bytes.text) ?? 0 }
    let function = (try? call["function"]?.members()) ?? nil
    if !calls.contains(where: { $0.index == index }) {
      guard calls.count < Self.callsMax else {
        hasTooManyCalls = true
        return
      }
      closeBlock(into: &out)
      open = .tool
      calls.append((index, blocks))
      openBlock(into: &out)
      out.append("{\"type\":\"tool_use\",\"id\":" as StaticString)
      append(call["id"], to: &out)
      out.append(",\"name\":" as StaticString)
      append(function?["name"], to: &out)
      out.append(",\"input\":{}}" as StaticString)
      close(into: &out)
    }
    guard let place = calls.first(where: { $0.index == index }),
      let text = function?["arguments"]?.contents, !text.isEmpty
    else { return }
    writeDelta("input_json_delta", "partial_json", text, block: place.block, into: &out)
  }

  private func append(_ text: RawValue?, to out: inout ByteBuffer) {
    if let text, text.contents != nil { out.append(text) } else { out.append("\"\"" as StaticString) }
  }

  private mutating func takeUsage(_ value: RawValue) {
    if let told = Usage.parse(value.bytes) { usage = told }
  }
}
