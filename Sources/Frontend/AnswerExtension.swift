// What an answer tells of its routing where the request asked for it by `nvext`: events before a stream's first chunk,
// a chunk before its end, a member of any other answer (Dynamo 1.6.1, reference/dynamo.md sections 3.4 and 3.5).

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// The answer's head is known: says whether its body must be held back to be extended.
  func prepareExtension(_ head: ResponseHead) {
    // A message of Anthropic's API has no place for more members.
    guard let hints, !hints.fields.isEmpty, (200..<300).contains(status), !endpoint.isAnthropic else {
      return
    }
    if isEventStream {
      relay.holdsDone = true
    } else if let type = head.fields.first(.contentType),
      type.mediaType.equalsIgnoringCase("application/json")
    {
      if head.fields.contains(.contentEncoding) {
        leaveOutExtension("encoded")
      } else if let length = lengthOfAnswer, length > Self.unaryBytesMax {
        leaveOutExtension("too_large")
      } else {
        extendsAnswer = true
      }
    }
  }

  /// The answer passes as it comes, and its head says so to the caller, who has asked for more.
  private func leaveOutExtension(_ reason: StaticString) {
    extendsAnswer = false
    responseFields.append("x-dynamo-nvext-omitted: " as StaticString)
    responseFields.append(reason)
    responseFields.append("\r\n" as StaticString)
  }

  /// Sends what was asked for by `annotations`: events that are comments, as Dynamo's.
  func sendAnnotations(_ hints: RoutingHints) {
    guard !hints.annotations.isEmpty, isEventStream, (200..<300).contains(status) else { return }
    var events = ByteBuffer(capacity: 128)
    if hints.annotations.contains(.requestID) {
      events.append("event: request_id\n: \"" as StaticString)
      events.append(identity.requestID)
      events.append("\"\n\n" as StaticString)
    }
    if hints.annotations.contains(.workerInstanceID), let attempt {
      events.append("event: worker_instance_id\n: \"" as StaticString)
      events.append(decimal: attempt.worker.id)
      events.append("\"\n\n" as StaticString)
    }
    exchange.send(events.readable)
  }

  /// Ends a stream that was asked to tell of itself: one more chunk, then the end that was held back.
  func sendLastChunk() {
    guard relay.holdsDone, relay.sawDone, let hints else { return }
    relay.holdsDone = false
    var chunk = ByteBuffer(capacity: 512)
    chunk.append("data: {\"id\":\"" as StaticString)
    chunk.append(identity.requestID)
    chunk.append("\",\"object\":\"" as StaticString)
    switch endpoint {
    case .chatCompletions: chunk.append("chat.completion.chunk" as StaticString)
    default: chunk.append("text_completion" as StaticString)
    }
    chunk.append("\",\"created\":" as StaticString)
    chunk.append(decimal: Int(times.wall / 1_000_000_000))
    chunk.append(",\"model\":" as StaticString)
    chunk.append(jsonString: metrics.model)
    chunk.append(",\"choices\":[],\"nvext\":" as StaticString)
    chunk.append(extensionValue(hints))
    chunk.append("}\n\ndata: [DONE]\n\n" as StaticString)
    exchange.send(chunk.readable)
  }

  /// Keeps a part of an answer that is to be extended; false when it has become too long for that.
  func holdAnswer(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard extendsAnswer else { return false }
    guard answer.count + bytes.count <= Self.unaryBytesMax else {
      leaveOutExtension("too_large")
      return false
    }
    noteFirstBytes(isHeld: true)
    answer.append(bytes)
    return true
  }

  /// The held answer with one more member, where it is an object that has none of that name.
  func extendAnswer() {
    extendsAnswer = false
    guard let hints else { return }
    let bytes = answer.readable
    guard let brace = bytes.lastIndex(where: { $0 > 0x20 }), bytes[brace] == UInt8(ascii: "}"),
      let before = bytes[..<brace].lastIndex(where: { $0 > 0x20 }), !AnswerSummary.hasExtension(bytes)
    else { return }
    var extended = ByteBuffer(capacity: answer.count + 512)
    extended.append(bytes.slice(0..<brace))
    let isEmpty = bytes[before] == UInt8(ascii: "{")
    extended.append(isEmpty ? "\"nvext\":" as StaticString : ",\"nvext\":")
    extended.append(extensionValue(hints))
    extended.append(bytes.slice(brace..<bytes.count))
    swap(&answer, &extended)
    if lengthOfAnswer != nil { lengthOfAnswer = answer.count }
  }

  /// The worker that read the prompt of what `attempt` answered.
  func prefillReader(_ attempt: Attempt) -> UInt64 {
    attempt.isDecode ? prefill?.reader ?? attempt.worker.id : attempt.worker.id
  }

  private func prefillBegan(_ attempt: Attempt) -> Nanoseconds {
    attempt.isDecode ? prefill?.began ?? attempt.began : attempt.began
  }

  /// Dynamo's `nvext` of an answer. What is not known is left out; without a stream nobody saw the first token.
  private func extensionValue(_ hints: RoutingHints) -> JSONValue {
    var members: [(String, JSONValue)] = []
    if hints.fields.contains(.workerID), let attempt {
      members.append(
        (
          "worker_id",
          .members([
            ("prefill_worker_id", .worker(prefillReader(attempt))), ("prefill_dp_rank", .integer(0)),
            ("decode_worker_id", .worker(attempt.worker.id)), ("decode_dp_rank", .integer(0)),
          ])
        ))
    }
    if hints.fields.contains(.timing), let attempt {
      func milliseconds(_ from: Nanoseconds, _ to: Nanoseconds) -> JSONValue {
        .double(Double(to - min(from, to)) / 1e6)
      }
      var timing: [(String, JSONValue)] = [
        ("request_received_ms", .integer(Int(times.wallTime(times.began) / 1_000_000))),
        ("prefill_wait_time_ms", milliseconds(times.began, prefillBegan(attempt))),
      ]
      if attempt.isDecode, let prefill {
        timing.append(("prefill_time_ms", milliseconds(prefill.began, prefill.ended)))
      }
      if isEventStream, times.firstToken > 0 {
        if !attempt.isDecode {
          timing.append(("prefill_time_ms", milliseconds(attempt.began, times.firstToken)))
        }
        timing.append(("ttft_ms", milliseconds(times.began, times.firstToken)))
      }
      timing.append(("total_time_ms", milliseconds(times.began, loop.now)))
      if let rate = hints.hitRate { timing.append(("kv_hit_rate", .double(rate))) }
      if let depth = hints.queueDepth { timing.append(("router_queue_depth", .integer(depth))) }
      members.append(("timing", .members(timing)))
    }
    return .members(members)
  }
}
