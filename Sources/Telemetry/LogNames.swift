// Keys of log lines. Trace and request ids are Dynamo's (reference/dynamo.md section 2.2).

/// Keys of our own fields.
@usableFromInline
package enum LogKey {
  @inlinable package static var requestID: StaticString { "request_id" }
  @inlinable package static var xRequestID: StaticString { "x_request_id" }
  @inlinable package static var parentID: StaticString { "parent_id" }
  @inlinable package static var busy: StaticString { "time.busy_us" }
  @inlinable package static var idle: StaticString { "time.idle_us" }
  @inlinable package static var duration: StaticString { "time.duration_us" }
  @inlinable package static var spanID: StaticString { "span_id" }
  @inlinable package static var spanName: StaticString { "span_name" }
  @inlinable package static var traceID: StaticString { "trace_id" }
  @inlinable package static var attempts: StaticString { "attempts" }
  @inlinable package static var averageITL: StaticString { "avg_itl_ms" }
  @inlinable package static var blocks: StaticString { "blocks" }
  @inlinable package static var bytes: StaticString { "bytes" }
  @inlinable package static var cost: StaticString { "cost" }
  @inlinable package static var isStream: StaticString { "stream" }
  @inlinable package static var overlapBlocks: StaticString { "overlap_blocks" }
  @inlinable package static var route: StaticString { "route" }
  @inlinable package static var promptBytes: StaticString { "prompt_bytes" }
  @inlinable package static var promptTokens: StaticString { "prompt_tokens" }
  @inlinable package static var url: StaticString { "url" }
  @inlinable package static var cachedTokens: StaticString { "cached_tokens" }
  @inlinable package static var elapsed: StaticString { "elapsed_ms" }
  @inlinable package static var endpoint: StaticString { "endpoint" }
  @inlinable package static var error: StaticString { "error" }
  @inlinable package static var errorType: StaticString { "error_type" }
  @inlinable package static var inputTokens: StaticString { "input_tokens" }
  @inlinable package static var method: StaticString { "method" }
  @inlinable package static var model: StaticString { "model" }
  @inlinable package static var outcome: StaticString { "outcome" }
  @inlinable package static var outputTokens: StaticString { "output_tokens" }
  @inlinable package static var requestType: StaticString { "request_type" }
  @inlinable package static var status: StaticString { "status" }
  @inlinable package static var tenant: StaticString { "tenant" }
  @inlinable package static var timeToFirstToken: StaticString { "ttft_ms" }
  @inlinable package static var uri: StaticString { "uri" }
  @inlinable package static var workerID: StaticString { "worker_id" }
}
