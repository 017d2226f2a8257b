// The trace of a request that no worker sees: an unknown route, a wrong method, a system route where those are traced.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry

/// Ids, times and spans of one request that the frontend answers from its head alone.
struct PlainTrace {
  let identity: RequestIdentity
  let context: RequestTrace?
  private let traceState: [UInt8]
  private let began: Nanoseconds
  private let parsed: Nanoseconds
  private let wall: UInt64
  private let method: HTTP.Method
  private let path: [UInt8]
  private let isMultiplexed: Bool

  init(_ head: RequestHead, began: Nanoseconds, on service: FrontendLoop) {
    self.began = began
    identity = RequestIdentity(head.fields, random: &service.loop.random)
    let tracing = service.configuration.tracing
    context =
      tracing.hasContext
      ? RequestTrace(head.fields, configuration: tracing, random: &service.loop.random) : nil
    traceState = context?.remoteParent ?? 0 == 0 ? [] : RequestTrace.state(head.fields)
    parsed = service.loop.now
    wall = service.loop.system.wallNanoseconds()
    method = head.method
    path = Array(head.path.prefix(256))
    isMultiplexed = head.isMultiplexed
  }

  /// Appends the fields by which the caller finds the request again.
  func appendFields(to fields: inout ByteBuffer) {
    identity.appendFields(context, to: &fields)
  }

  /// Writes the request's spans; `route` is the pattern that its path matched, empty for none.
  func recordSpans(status: Int, route: StaticString, on service: FrontendLoop) {
    let tracing = service.configuration.tracing
    guard let context, tracing.recordsSpans, context.root.isSampled else { return }
    let end = wall &+ service.loop.now &- parsed
    let outcome = status < 400 ? RequestOutcome.success : status < 500 ? .rejected : .unavailable
    // Named by the method alone where there is no route: the path is a stranger's and would make names without end.
    var name = ByteBuffer(capacity: 64)
    if tracing.mergesRoot {
      name.append(SpanName.httpRequest)
    } else {
      name.append(method.name)
      if route.utf8CodeUnitCount > 0 {
        name.append(UInt8(ascii: " "))
        name.append(route)
      }
    }
    service.publishSpans { spans in
      traceState.withUnsafeBytes { state in
        spans.begin(
          name: name.readable, context: context.root, parent: context.remoteParent,
          parentIsRemote: context.remoteParent != 0, kind: .server, start: wall &- (parsed - began),
          traceState: state)
        if let linked = context.linked { spans.link(to: linked, isRemote: true) }
        writeIdentity(&spans, status, service)
        spans.attribute(AttributeName.httpRequestMethod, method.name)
        if route.utf8CodeUnitCount > 0 { spans.attribute(AttributeName.httpRoute, route) }
        path.withUnsafeBytes { spans.attribute(AttributeName.urlPath, $0) }
        spans.attribute(AttributeName.urlScheme, "http")
        if !tracing.mergesRoot {
          spans.end(at: end)
          spans.begin(
            name: SpanName.httpRequest, context: context.request, parent: context.root.spanID,
            kind: .internal, start: wall, traceState: state)
          writeIdentity(&spans, status, service)
        }
        spans.attribute(AttributeName.method, method.name)
        path.withUnsafeBytes { spans.attribute(AttributeName.uri, $0) }
        spans.attribute(AttributeName.version, isMultiplexed ? "HTTP/2.0" : "HTTP/1.1")
        spans.attribute(AttributeName.requestOutcome, outcome.text)
        spans.end(at: end)
      }
    }
  }

  private func writeIdentity(_ spans: inout SpanWriter, _ status: Int, _ service: FrontendLoop) {
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    spans.attribute(AttributeName.httpResponseStatusCode, status)
  }

  /// Writes the access line of a refused request.
  func recordLine(status: Int, on service: FrontendLoop) {
    let now = service.loop.now
    identity.xRequestID.withUnsafeBytes { xRequestID in
      path.withUnsafeBytes { path in
        let name = method.name
        var record = AccessRecord(
          trace: LogTrace(
            context: context?.request, spanName: SpanName.httpRequest, requestID: identity.requestID,
            xRequestID: xRequestID))
        record.method = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        record.uri = path
        record.status = status
        record.outcome = .rejected
        record.attempts = 0
        record.elapsed = now - began
        service.log(record, model: "", at: wall &+ now &- parsed)
      }
    }
  }
}
