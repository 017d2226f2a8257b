// Requests for routes or methods that do not exist: an error, a trace, a log line.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport

/// Answers one request with an error that its head alone decided.
final class ErrorExchange: ServerExchangeHandler {
  private let service: FrontendLoop
  private let exchange: any ServerExchange
  private let error: APIError
  private let identity: RequestIdentity
  private let trace: RequestTrace?
  private let traceState: [UInt8]
  private let began: Nanoseconds
  private let parsed: Nanoseconds
  private let wall: UInt64
  private let method: HTTP.Method
  private let path: [UInt8]
  private var answered = false

  init(
    service: FrontendLoop, exchange: any ServerExchange, head: RequestHead, began: Nanoseconds,
    _ error: APIError
  ) {
    self.service = service
    self.exchange = exchange
    self.error = error
    self.began = began
    identity = RequestIdentity(head.fields, random: &service.loop.random)
    let tracing = service.configuration.tracing
    trace =
      tracing.hasContext
      ? RequestTrace(head.fields, configuration: tracing, random: &service.loop.random) : nil
    traceState = trace?.remoteParent ?? 0 == 0 ? [] : RequestTrace.state(head.fields)
    parsed = service.loop.now
    wall = service.loop.system.wallNanoseconds()
    method = head.method
    path = Array(head.path.prefix(256))
    answer()
  }

  func received(body: UnsafeRawBufferPointer) {}
  func receivedEnd() {}
  func drained() {}

  private func answer() {
    var fields = ByteBuffer(capacity: 256)
    fields.append("content-type: application/json\r\n" as StaticString)
    if let allow = error.allow { fields.header("allow", text: allow) }
    fields.append("x-request-id: " as StaticString)
    identity.xRequestID.withUnsafeBytes { fields.append($0) }
    fields.append("\r\n" as StaticString)
    if let trace {
      fields.append("traceresponse: " as StaticString)
      fields.append(traceparent: trace.root)
      fields.append("\r\n" as StaticString)
    }
    var body = ByteBuffer(capacity: 256)
    error.write(into: &body, format: service.configuration.errorFormat)
    exchange.respond(status: error.status, fields: fields.readable, body: .length(body.count))
    exchange.send(body.readable)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  func ended(_ end: EndOfStream) {
    guard !answered else { return }
    answered = true
    let now = service.loop.now
    if let trace, service.configuration.tracing.recordsSpans, trace.root.isSampled {
      recordSpans(trace, end: wall &+ now &- parsed)
    }
    identity.xRequestID.withUnsafeBytes { xRequestID in
      path.withUnsafeBytes { path in
        let name = method.name
        var record = AccessRecord(
          trace: LogTrace(
            context: trace?.request, spanName: SpanName.httpRequest, requestID: identity.requestID,
            xRequestID: xRequestID))
        record.method = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        record.uri = path
        record.status = error.status
        record.outcome = .rejected
        record.attempts = 0
        record.elapsed = now - began
        service.log(record, model: "", at: wall &+ now &- parsed)
      }
    }
  }

  /// The root is named by the method alone: the path is a stranger's and would make names without end.
  private func recordSpans(_ trace: RequestTrace, end: UInt64) {
    service.publishSpans { spans in
      traceState.withUnsafeBytes { state in
        spans.begin(
          name: method.name, context: trace.root, parent: trace.remoteParent,
          parentIsRemote: trace.remoteParent != 0, kind: .server, start: wall &- (parsed - began),
          traceState: state)
        writeAttributes(&spans)
        spans.attribute(AttributeName.httpRequestMethod, method.name)
        path.withUnsafeBytes { spans.attribute(AttributeName.urlPath, $0) }
        spans.attribute(AttributeName.urlScheme, "http")
        spans.end(at: end)
        spans.begin(
          name: SpanName.httpRequest, context: trace.request, parent: trace.root.spanID, kind: .internal,
          start: wall,
          traceState: state)
        writeAttributes(&spans)
        spans.attribute(AttributeName.method, method.name)
        path.withUnsafeBytes { spans.attribute(AttributeName.uri, $0) }
        spans.attribute(AttributeName.version, "HTTP/1.1")
        spans.attribute(AttributeName.requestOutcome, RequestOutcome.rejected.text)
        spans.end(at: end)
      }
    }
  }

  private func writeAttributes(_ spans: inout SpanWriter) {
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    spans.attribute(AttributeName.httpResponseStatusCode, error.status)
  }
}
