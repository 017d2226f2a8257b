// The trace of a request that no worker sees: an unknown route, a wrong method, a system route where those are traced.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

/// Ids, times and spans of one request that the frontend answers from its head alone.
struct PlainTrace {
  let identity: RequestIdentity
  let context: RequestTrace?
  private let traceState: [UInt8]
  private let began: Nanoseconds
  private let parsed: Nanoseconds
  private let wall: UInt64
  private let method: HTTP.Method
  /// The method's own name where it is none that is known; bounded.
  private let methodText: [UInt8]
  private let protocolVersion: ProtocolVersion
  private let path: [UInt8]
  /// Whose request it is; empty where there are no tenants.
  var tenant: [UInt8] = []

  init(_ head: RequestHead, from exchange: any ServerExchange, began: Nanoseconds, on service: FrontendLoop) {
    self.began = began
    identity = RequestIdentity(head.fields, random: &service.loop.random)
    let tracing = service.configuration.tracing
    var state: [UInt8] = []
    context =
      tracing.hasContext
      ? RequestTrace(
        head.fields, from: exchange, configuration: tracing, random: &service.loop.random, state: &state)
      : nil
    traceState = state
    parsed = service.loop.now
    wall = service.loop.system.wallNanoseconds()
    method = head.method
    if case .other = head.method { methodText = Array(head.methodText.prefix(64)) } else { methodText = [] }
    protocolVersion = ProtocolVersion(head)
    path = Array(head.path.prefix(256))
  }

  /// Appends the fields by which the caller finds the request again.
  func appendFields(to fields: inout ByteBuffer) {
    identity.appendFields(context, to: &fields)
  }

  /// Without a status the caller left before there was one.
  private static func outcome(_ status: Int) -> RequestOutcome {
    status == 0 ? .cancelled : status < 400 ? .success : status < 500 ? .rejected : .unavailable
  }

  /// Writes the request's spans; `status` is 0 where none was sent.
  ///
  /// - Parameters:
  ///   - route: the pattern that its path matched, empty for none.
  ///   - operation: OpenTelemetry's word for what an inference route does; empty for other routes.
  func recordSpans(
    status: Int, route: StaticString, operation: StaticString = "", on service: FrontendLoop
  ) {
    let tracing = service.configuration.tracing
    guard let context, tracing.recordsSpans, context.root.isSampled else { return }
    let end = wall &+ service.loop.now &- parsed
    let name = spanName(route, merges: tracing.mergesRoot)
    service.publishSpans { spans in
      traceState.withUnsafeBytes { state in
        spans.begin(
          name: name.readable, context: context.root, parent: context.remoteParent,
          parentIsRemote: context.remoteParent != 0, kind: .server, start: wall &- (parsed - began),
          traceState: state)
        if let linked = context.linked { spans.link(to: linked, isRemote: true) }
        writeIdentity(&spans, status, service)
        writeHead(&spans, route, service)
        if !tracing.mergesRoot {
          writeEnd(&spans, status, end)
          spans.begin(
            name: SpanName.httpRequest, context: context.request, parent: context.root.spanID,
            kind: .internal, start: wall, traceState: state)
          writeIdentity(&spans, status, service)
        }
        if methodText.isEmpty {
          spans.attribute(AttributeName.method, method.name)
        } else {
          methodText.withUnsafeBytes { spans.attribute(AttributeName.method, $0) }
        }
        path.withUnsafeBytes { spans.attribute(AttributeName.uri, $0) }
        spans.attribute(AttributeName.version, protocolVersion.text)
        if operation.utf8CodeUnitCount > 0 {
          spans.attribute(AttributeName.genAIOperationName, operation)
          spans.attribute(AttributeName.genAIProviderName, "dynamo")
        }
        spans.attribute(AttributeName.requestOutcome, Self.outcome(status).text)
        writeEnd(&spans, status, end)
      }
    }
  }

  /// Method and route; the method alone where there is no route: the path is a stranger's and would make names without
  /// end, and so would a method's name that nobody knows (OpenTelemetry HTTP spans, "Name").
  private func spanName(_ route: StaticString, merges: Bool) -> ByteBuffer {
    var name = ByteBuffer(capacity: 64)
    if merges {
      name.append(SpanName.httpRequest)
      return name
    }
    name.append(methodText.isEmpty ? method.name : "HTTP")
    if route.utf8CodeUnitCount > 0 {
      name.append(UInt8(ascii: " "))
      name.append(route)
    }
    return name
  }

  private func writeHead(_ spans: inout SpanWriter, _ route: StaticString, _ service: FrontendLoop) {
    if methodText.isEmpty {
      spans.attribute(AttributeName.httpRequestMethod, method.name)
    } else {
      spans.attribute(AttributeName.httpRequestMethod, "_OTHER")
      methodText.withUnsafeBytes { spans.attribute(AttributeName.httpRequestMethodOriginal, $0) }
    }
    if route.utf8CodeUnitCount > 0 { spans.attribute(AttributeName.httpRoute, route) }
    path.withUnsafeBytes { spans.attribute(AttributeName.urlPath, $0) }
    spans.attribute(AttributeName.urlScheme, service.isSecure ? "https" : "http")
    spans.attribute(AttributeName.networkProtocolVersion, protocolVersion.number)
  }

  /// A status from 500 on is our fault, and the error's type (OpenTelemetry HTTP spans, "Status").
  private func writeEnd(_ spans: inout SpanWriter, _ status: Int, _ end: UInt64) {
    guard status >= 500 else { return spans.end(at: end) }
    spans.attribute(AttributeName.errorType, String(status))
    spans.end(at: end, status: .error)
  }

  private func writeIdentity(_ spans: inout SpanWriter, _ status: Int, _ service: FrontendLoop) {
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    if !tenant.isEmpty { tenant.withUnsafeBytes { spans.attribute(AttributeName.tenant, $0) } }
    if status > 0 { spans.attribute(AttributeName.httpResponseStatusCode, status) }
  }

  /// Writes the access line.
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
        record.outcome = Self.outcome(status)
        record.attempts = 0
        record.elapsed = now - began
        tenant.withUnsafeBytes { tenant in
          record.tenant = tenant
          service.log(record, model: "", at: wall &+ now &- parsed)
        }
      }
    }
  }
}
