// Who a request is: its ids, and its place in a trace.

internal import Base
internal import HTTP
internal import Telemetry
internal import Transport
internal import Workers

/// The ids of one request. `x-request-id` is the caller's, `request_id` ours.
struct RequestIdentity {
  let requestID: UUID
  /// The caller's `x-request-id`, or the text of ``requestID`` when there was none fit to keep.
  let xRequestID: [UInt8]
  /// True when the caller sent an `x-request-id` that was not fit to keep.
  let wasReplaced: Bool
  /// True when the caller named the request.
  let isCallers: Bool

  init(_ fields: HeaderFields, random: inout Xoshiro256) {
    requestID = fields.first(.requestID).flatMap { UUID($0) } ?? UUID(using: &random)
    let count = fields.count(of: .xRequestID)
    if count == 1, let value = fields.first(.xRequestID), XRequestID.isFit(value) {
      xRequestID = Array(value)
      wasReplaced = false
      isCallers = true
    } else {
      var text = ByteBuffer(capacity: 36)
      text.append(requestID)
      xRequestID = text.bytes
      wasReplaced = count > 0
      isCallers = false
    }
  }
}

extension RequestIdentity {
  /// Appends `x-request-id`, and `traceresponse` where there is a trace.
  func appendFields(_ trace: RequestTrace?, to fields: inout ByteBuffer) {
    fields.append("x-request-id: " as StaticString)
    xRequestID.withUnsafeBytes { fields.append($0) }
    fields.append("\r\n" as StaticString)
    guard let trace else { return }
    fields.append("traceresponse: " as StaticString)
    fields.append(traceparent: trace.root)
    fields.append("\r\n" as StaticString)
  }
}

/// A request's place in a trace: the root span of ours and what came from outside.
struct RequestTrace {
  /// The server span.
  let root: SpanContext
  /// `http-request` under it, or the same where they are one.
  let request: SpanContext
  /// The caller's span; 0 when this trace begins here.
  let remoteParent: UInt64
  /// The caller's span where it is not trusted to be the parent: linked instead.
  let linked: SpanContext?

  /// The caller asked by B3 that the trace be kept, which is passed on.
  let isDebug: Bool

  /// - Parameter state: on return the `tracestate` to record and to pass on; kept apart, so that a trace is plain
  ///   numbers.
  init(
    _ fields: HeaderFields, from exchange: any ServerExchange, configuration: TracingConfiguration,
    random: inout Xoshiro256, state: inout [UInt8]
  ) {
    var caller = fields.callerContext(configuration.propagators)
    if !caller.isEmpty, !configuration.trust.admits(exchange) {
      linked = caller.span
      caller = CallerContext()
    } else {
      linked = nil
    }
    if caller.hasTraceState { state = fields.traceState }
    let own = caller.span?.child(using: &random) ?? SpanContext(rootUsing: &random)
    root = own.sampled(configuration.sampler.samples(own.traceID, parent: caller.isSampled, state: &state))
    remoteParent = caller.span?.spanID ?? 0
    isDebug = caller.isDebug
    request = configuration.mergesRoot ? root : root.child(using: &random)
  }
}
