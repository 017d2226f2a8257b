// Who a request is: its ids and its place in a trace, copied from the head before the head is gone.

internal import Base
internal import HTTP
internal import Telemetry

/// The ids of one request, and the contexts of its two spans.
struct RequestIdentity {
  /// What the caller named the request; the request id's text when it gave no usable name.
  let xRequestID: [UInt8]
  let requestID: UUID
  /// The caller's span; nil when there is none or trace context is off.
  let parent: SpanContext?
  /// The context of `handle_payload`; nil while trace context is off.
  let handlePayload: SpanContext?
  /// The context of `engine.generate`.
  let generate: SpanContext?
  /// Other vendors' list, passed on and recorded; empty without a parent.
  let traceState: [UInt8]
  let baggage: [UInt8]

  /// Longest `baggage` that is passed on (W3C Baggage section 3.3.2).
  private static let baggageBytesMax = 8_192

  init(_ fields: HeaderFields, telemetry: WorkerTelemetry, random: inout Xoshiro256) {
    let requestID = fields.first(.requestID).flatMap { UUID($0) } ?? UUID(using: &random)
    self.requestID = requestID
    if let given = fields.first(.xRequestID), fields.count(of: .xRequestID) == 1, XRequestID.isFit(given) {
      xRequestID = Array(given)
    } else {
      var text = ByteBuffer(capacity: 36)
      text.append(requestID)
      xRequestID = text.bytes
    }
    guard telemetry.tracesContext else {
      parent = nil
      handlePayload = nil
      generate = nil
      traceState = []
      baggage = []
      return
    }
    let parent = fields.first(.traceparent).flatMap {
      TraceParent.parse($0, fieldCount: fields.count(of: .traceparent))
    }
    self.parent = parent
    let own = parent?.child(using: &random) ?? SpanContext(rootUsing: &random)
    let context = own.sampled(telemetry.sampler.samples(own.traceID, parent: parent?.isSampled))
    handlePayload = context
    generate = context.child(using: &random)
    var state = TraceState()
    if parent != nil, fields.contains(.tracestate) {
      for index in 0..<fields.count {
        if case .tracestate = fields[index].known { state.add(fields[index].value) }
      }
    }
    traceState = Array(state.bytes)
    if let given = fields.first(.baggage), fields.count(of: .baggage) == 1,
      given.count <= Self.baggageBytesMax
    {
      baggage = Array(given)
    } else {
      baggage = []
    }
  }
}
