// Who a request is: its ids and its place in a trace, copied from the head before the head is gone.

internal import Base
internal import HTTP
internal import Telemetry
internal import Transport
internal import Workers

/// The ids of one request, and the contexts of its two spans.
struct RequestIdentity {
  /// What the caller named the request; the request id's text when it gave no usable name.
  let xRequestID: [UInt8]
  let requestID: UUID
  /// The caller's span; nil when there is none or trace context is off.
  let parent: SpanContext?
  /// The caller's span where it is not trusted to be the parent: linked instead.
  let linked: SpanContext?
  /// The context of `handle_payload`; nil while trace context is off.
  let handlePayload: SpanContext?
  /// The context of `engine.generate`.
  let generate: SpanContext?
  /// Other vendors' list, passed on and recorded; empty without a parent.
  let traceState: [UInt8]
  /// The caller's baggage as a header line; empty for none.
  let baggage: [UInt8]
  /// Members of it that were left out.
  let baggageMembersDropped: Int
  /// The caller asked by B3 that the trace be kept, which is passed on.
  let isDebug: Bool

  init(
    _ fields: HeaderFields, from exchange: any ServerExchange, telemetry: WorkerTelemetry,
    random: inout Xoshiro256
  ) {
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
      linked = nil
      handlePayload = nil
      generate = nil
      traceState = []
      baggage = []
      baggageMembersDropped = 0
      isDebug = false
      return
    }
    var caller = fields.callerContext(telemetry.propagators)
    if !caller.isEmpty, !telemetry.trust.admits(exchange) {
      linked = caller.span
      caller = CallerContext()
    } else {
      linked = nil
    }
    parent = caller.span
    isDebug = caller.isDebug
    var state = caller.hasTraceState ? fields.traceState : []
    let own = caller.span?.child(using: &random) ?? SpanContext(rootUsing: &random)
    let context = own.sampled(
      telemetry.sampler.samples(own.traceID, parent: caller.isSampled, state: &state))
    traceState = state
    handlePayload = context
    generate = context.child(using: &random)
    var lines = ByteBuffer()
    baggageMembersDropped = telemetry.propagators.usesBaggage ? fields.passBaggage(to: &lines) : 0
    baggage = lines.isEmpty ? [] : lines.bytes
  }
}
