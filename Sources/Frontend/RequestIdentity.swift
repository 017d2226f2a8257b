// Who a request is: its ids, and its place in a trace.

internal import Base
internal import HTTP
internal import Telemetry

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

  init(_ fields: HeaderFields, configuration: TracingConfiguration, random: inout Xoshiro256) {
    let sampler = configuration.sampler
    var parent: SpanContext?
    if let value = fields.first(.traceparent) {
      parent = TraceParent.parse(value, fieldCount: fields.count(of: .traceparent))
    }
    linked = configuration.trustsCallers ? nil : parent
    if let parent, configuration.trustsCallers {
      let sampled = sampler.samples(parent.traceID, parent: parent.isSampled)
      root = parent.child(using: &random).sampled(sampled)
      remoteParent = parent.spanID
    } else {
      let own = SpanContext(rootUsing: &random)
      root = own.sampled(sampler.samples(own.traceID, parent: nil))
      remoteParent = 0
    }
    request = configuration.mergesRoot ? root : root.child(using: &random)
  }

  /// The caller's `tracestate`, validated; empty when there is none. Several fields join in order (W3C Trace Context
  /// level 2, section 3.3.1). It belongs to a `traceparent` that was taken: kept apart, so that a trace is plain numbers.
  static func state(_ fields: HeaderFields) -> [UInt8] {
    guard fields.contains(.tracestate) else { return [] }
    var state = TraceState()
    for index in 0..<fields.count {
      let field = fields[index]
      if case .tracestate = field.known { state.add(field.value) }
    }
    return state.isEmpty ? [] : Array(state.bytes)
  }
}
