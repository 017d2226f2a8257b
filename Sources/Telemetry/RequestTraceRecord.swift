// Request-trace records: what a request was, in lengths, hashes and times, so that traffic can be replayed. Never its text.
// The schema is Dynamo's `dynamo.request.trace.v1`; docs/request-trace.md lists the fields.

package import Base
internal import JSON

/// One finished request. Texts are valid while the record is.
package struct RequestTraceRecord {
  package static let schema: StaticString = "dynamo.request.trace.v1"

  /// The blocks of a prompt, by which a replay knows which prompts share a beginning.
  package struct Prompt {
    /// Tokens in a block.
    package var blockSize: Int
    /// Length in tokens, as far as the hashes go.
    package var length: Int
    /// One hash a block, each of all text up to its end; the last block may be incomplete.
    package var hashes: [UInt64]
    /// Whether they are of tokens; else of the prompt's bytes, four to a token.
    package var isOfTokens: Bool

    package init(blockSize: Int, length: Int, hashes: [UInt64], isOfTokens: Bool) {
      self.blockSize = blockSize
      self.length = length
      self.hashes = hashes
      self.isOfTokens = isOfTokens
    }
  }

  /// When it ended and when its head was parsed, in nanoseconds since the Unix epoch.
  package var ended: UInt64
  package var received: UInt64
  package var requestID: UUID
  package var xRequestID: UnsafeRawBufferPointer
  package var traceID: TraceID?
  /// A hash of the session's name.
  package var session: UInt64?
  package var model: UnsafeRawBufferPointer
  package var endpoint: StaticString
  package var isStream: Bool
  package var status: Int
  package var outcome: RequestOutcome
  package var finishReason: StaticString?
  package var workerID: UInt64?
  package var maxTokens: Int?
  /// As the engine counts them.
  package var inputTokens: Int?
  package var outputTokens: Int?
  package var cachedTokens: Int?
  package var totalTime: Nanoseconds
  /// From the head to the worker's choice, from there to the first token, and both.
  package var prefillWait: Nanoseconds?
  package var prefillTime: Nanoseconds?
  package var timeToFirstToken: Nanoseconds?
  package var averageInterTokenLatency: Nanoseconds?
  package var prompt: Prompt?

  package init(
    requestID: UUID, xRequestID: UnsafeRawBufferPointer, model: UnsafeRawBufferPointer,
    endpoint: StaticString,
    isStream: Bool, status: Int, outcome: RequestOutcome, received: UInt64, ended: UInt64,
    totalTime: Nanoseconds
  ) {
    self.requestID = requestID
    self.xRequestID = xRequestID
    self.model = model
    self.endpoint = endpoint
    self.isStream = isStream
    self.status = status
    self.outcome = outcome
    self.received = received
    self.ended = ended
    self.totalTime = totalTime
  }
}

extension ByteBuffer {
  /// Appends `record` as one line, in the envelope that Dynamo's file sink puts around each.
  package mutating func append(_ record: RequestTraceRecord) {
    append("{\"timestamp\":" as StaticString)
    append(decimal: record.ended / 1_000_000)
    append(",\"event\":{\"schema\":\"" as StaticString)
    append(RequestTraceRecord.schema)
    append("\",\"event_type\":\"request_end\",\"event_time_unix_ms\":" as StaticString)
    append(decimal: record.ended / 1_000_000)
    append(",\"event_source\":\"dynamo\"" as StaticString)
    if let session = record.session {
      append(",\"agent_context\":{\"session_id\":\"" as StaticString)
      append(hex: session)
      append("\"}" as StaticString)
    }
    append(",\"request\":{\"request_id\":\"" as StaticString)
    append(record.requestID)
    append("\",\"x_request_id\":" as StaticString)
    append(jsonString: record.xRequestID)
    if let trace = record.traceID {
      append(",\"trace_id\":\"" as StaticString)
      append(trace)
      append(UInt8(ascii: "\""))
    }
    append(",\"model\":" as StaticString)
    append(jsonString: record.model)
    appendEnding(of: record)
    appendNumbers(of: record)
    if let prompt = record.prompt { append(prompt) }
    append("}}}\n" as StaticString)
  }

  private mutating func appendEnding(of record: RequestTraceRecord) {
    append(",\"endpoint\":\"" as StaticString)
    append(record.endpoint)
    append((record.isStream ? "\",\"request_type\":\"stream" : "\",\"request_type\":\"unary") as StaticString)
    append("\",\"status\":" as StaticString)
    append(decimal: record.status)
    append(",\"outcome\":\"" as StaticString)
    append(record.outcome.text)
    append(UInt8(ascii: "\""))
    if let reason = record.finishReason {
      append(",\"finish_reason_metadata\":{\"finish_reason\":\"" as StaticString)
      append(reason)
      append("\"}" as StaticString)
    }
  }

  private mutating func appendNumbers(of record: RequestTraceRecord) {
    func count(_ key: StaticString, _ value: Int?) {
      guard let value else { return }
      append(key)
      append(decimal: value)
    }
    func time(_ key: StaticString, _ value: Nanoseconds?) {
      guard let value else { return }
      append(key)
      append(double: Double(value) / 1e6, fraction: 3)
    }
    count(",\"worker_id\":", record.workerID.map { Int(truncatingIfNeeded: $0) })
    count(",\"max_tokens\":", record.maxTokens)
    count(",\"input_tokens\":", record.inputTokens)
    count(",\"output_tokens\":", record.outputTokens)
    count(",\"cached_tokens\":", record.cachedTokens)
    count(",\"request_received_ms\":", Int(record.received / 1_000_000))
    time(",\"total_time_ms\":", record.totalTime)
    time(",\"prefill_wait_time_ms\":", record.prefillWait)
    time(",\"prefill_time_ms\":", record.prefillTime)
    time(",\"ttft_ms\":", record.timeToFirstToken)
    time(",\"avg_itl_ms\":", record.averageInterTokenLatency)
  }

  private mutating func append(_ prompt: RequestTraceRecord.Prompt) {
    append(",\"replay\":{\"trace_block_size\":" as StaticString)
    append(decimal: prompt.blockSize)
    append(",\"input_length\":" as StaticString)
    append(decimal: prompt.length)
    append(",\"hashed\":\"" as StaticString)
    append((prompt.isOfTokens ? "tokens" : "bytes") as StaticString)
    append("\",\"input_sequence_hashes\":[" as StaticString)
    for (index, hash) in prompt.hashes.enumerated() {
      if index > 0 { append(UInt8(ascii: ",")) }
      append(decimal: hash)
    }
    append("]}" as StaticString)
  }
}

/// Takes request-trace records as lines.
package protocol RequestTraceSink: LogSink {
  /// Share of requests that are to be recorded.
  var ratio: Double { get }
}

extension RequestTraceSink {
  /// Whether the request of that id is among them; the same for each who asks.
  package func records(_ requestID: UUID) -> Bool {
    ratio >= 1 || Double(requestID.low & (1 << 53 - 1)) < ratio * 0x1p53
  }
}
