// The bytes that the fake worker sends. A token is six digits, its number in the answer, so that a checker sees
// what is lost, doubled or out of order.

import Base

/// Builders of answers in the shape of OpenAI's API.
enum AnswerTemplates {
  /// Digits of a token's number; numbers wrap at a million.
  static let tokenDigits = 6

  /// Appends the head of a stream.
  static func appendStreamHead(to out: inout ByteBuffer, closes: Bool) {
    out.append(
      "HTTP/1.1 200 OK\r\nserver: dynamo-bench\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
    out.append("cache-control: no-cache\r\ntransfer-encoding: chunked\r\n" as StaticString)
    if closes { out.append("connection: close\r\n" as StaticString) }
    out.append("\r\n" as StaticString)
  }

  /// Appends one chunk with the event of a token and returns the offset of its digits from the chunk's start.
  static func appendToken(
    to out: inout ByteBuffer, answer: UInt64, model: String, isLast: Bool
  ) -> Int {
    var payload = ByteBuffer(capacity: 320)
    let digits = appendTokenEvent(to: &payload, answer: answer, model: model, isLast: isLast)
    let before = out.count
    appendChunkSize(payload.count, to: &out)
    let frame = out.count - before
    out.append(payload.readable)
    out.append("\r\n" as StaticString)
    return frame + digits
  }

  /// Appends the event of a token and returns the offset of its digits from the event's start.
  static func appendTokenEvent(
    to out: inout ByteBuffer, answer: UInt64, model: String, isLast: Bool
  ) -> Int {
    let start = out.count
    appendEventStart(to: &out, answer: answer, model: model)
    out.append("[{\"index\":0,\"delta\":{\"content\":\" " as StaticString)
    let digits = out.count - start
    out.append("000000\"},\"logprobs\":null,\"finish_reason\":" as StaticString)
    out.append((isLast ? "\"length\"}]}\n\n" : "null}]}\n\n") as StaticString)
    return digits
  }

  /// Appends the event that tells usage.
  static func appendUsageEvent(
    to out: inout ByteBuffer, answer: UInt64, model: String, promptTokens: Int, tokens: Int
  ) {
    appendEventStart(to: &out, answer: answer, model: model)
    out.append("[],\"usage\":" as StaticString)
    appendUsage(to: &out, promptTokens, tokens)
    out.append("}\n\n" as StaticString)
  }

  /// Appends what ends a stream: usage when asked for, `[DONE]` and the last chunk.
  static func appendStreamEnd(
    to out: inout ByteBuffer, answer: UInt64, model: String, promptTokens: Int, tokens: Int,
    includeUsage: Bool
  ) {
    if includeUsage {
      var payload = ByteBuffer(capacity: 320)
      appendUsageEvent(
        to: &payload, answer: answer, model: model, promptTokens: promptTokens, tokens: tokens)
      appendChunkSize(payload.count, to: &out)
      out.append(payload.readable)
      out.append("\r\n" as StaticString)
    }
    out.append("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n" as StaticString)
  }

  /// Appends a whole answer that is not streamed.
  static func appendUnary(
    to out: inout ByteBuffer, answer: UInt64, model: String, promptTokens: Int, tokens: Int, closes: Bool
  ) {
    var body = ByteBuffer(capacity: 512 + tokens * (tokenDigits + 1))
    body.append("{\"id\":\"chatcmpl-bench-" as StaticString)
    body.append(hex: answer)
    body.append("\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":" as StaticString)
    body.append(quoted(model))
    body.append(
      ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" as StaticString)
    for token in 1...max(tokens, 1) where token <= tokens {
      body.append(UInt8(ascii: " "))
      write(token, at: body.reserve(tokenDigits))
      body.commit(tokenDigits)
    }
    body.append("\"},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":" as StaticString)
    appendUsage(to: &body, promptTokens, tokens)
    body.append(UInt8(ascii: "}"))
    appendJSON(body.readable, status: "200 OK", closes: closes, to: &out)
  }

  /// Appends a complete response with a JSON body.
  static func appendJSON(
    _ body: UnsafeRawBufferPointer, status: StaticString, closes: Bool, to out: inout ByteBuffer
  ) {
    out.append("HTTP/1.1 " as StaticString)
    out.append(status)
    out.append(
      "\r\nserver: dynamo-bench\r\ncontent-type: application/json\r\ncontent-length: " as StaticString)
    out.append(decimal: body.count)
    out.append((closes ? "\r\nconnection: close\r\n\r\n" : "\r\n\r\n") as StaticString)
    out.append(body)
  }

  /// Writes the six digits of `token` at `place`.
  static func write(_ token: Int, at place: UnsafeMutableRawPointer) {
    var rest = token
    for index in stride(from: tokenDigits - 1, through: 0, by: -1) {
      let digit = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      place.storeBytes(of: digit, toByteOffset: index, as: UInt8.self)
      rest /= 10
    }
  }

  private static func appendEventStart(to out: inout ByteBuffer, answer: UInt64, model: String) {
    out.append("data: {\"id\":\"chatcmpl-bench-" as StaticString)
    out.append(hex: answer)
    out.append("\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":" as StaticString)
    out.append(quoted(model))
    out.append(",\"choices\":" as StaticString)
  }

  private static func appendUsage(to out: inout ByteBuffer, _ promptTokens: Int, _ tokens: Int) {
    out.append("{\"prompt_tokens\":" as StaticString)
    out.append(decimal: promptTokens)
    out.append(",\"completion_tokens\":" as StaticString)
    out.append(decimal: tokens)
    out.append(",\"total_tokens\":" as StaticString)
    out.append(decimal: promptTokens + tokens)
    out.append(UInt8(ascii: "}"))
  }

  private static func appendChunkSize(_ size: Int, to out: inout ByteBuffer) {
    out.append(String(size, radix: 16))
    out.append("\r\n" as StaticString)
  }
}
