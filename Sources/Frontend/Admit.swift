// Admit: what a head alone can refuse, and what of it goes on to the worker. Then the body is read.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Room for a body that is made at once; a promise of more than that alone takes no memory.
  private static let bodyRoom = 64 * 1024

  /// Checks the head; refuses at once, before a `100 Continue` invites the body, or keeps what the worker will need.
  func admit(_ head: RequestHead) {
    if service.logsSpanEvents { recordOpening() }
    tell("request head read") { $0.field(LogKey.uri, endpoint.path) }
    if identity.wasReplaced { service.shared.metrics.requestIDsReplaced.add() }
    if let reason = service.shedReason {
      // First of all, because it costs least; and the connection's memory goes too.
      service.shared.shedding.count(reason)
      exchange.closeAfterResponse()
      refuse(.overloaded(status: service.configuration.overloadStatus, .process))
      return
    }
    if service.isShortOfConnections { exchange.closeAfterResponse() }
    guard admitTenant(head.fields) else { return }
    if service.shared.isRefusingWork {
      refuse(.draining())
      return
    }
    guard Self.isJSON(head.fields) else {
      refuse(.unsupportedMediaType)
      return
    }
    let limit = service.configuration.bodyBytesMax
    if case .length(let length) = head.framing {
      guard length <= limit else {
        refuse(.bodyTooLarge(limitBytes: limit))
        return
      }
      // Memory is counted as bytes come: a promise of a large body alone must not keep others out.
      _ = body.reserve(min(length, Self.bodyRoom))
    }
    do throws(APIError) {
      hints = try RoutingHints.read(head.fields, sessions: service.configuration.sessions)
    } catch {
      refuse(error)
      return
    }
    if let tenancy { hints?.keepSession(of: tenancy.sessionSeed) }
    keepFields(head.fields)
  }

  /// A missing content type is taken for JSON; any other type, and any coding of the body but gzip, is refused.
  private static func isJSON(_ fields: HeaderFields) -> Bool {
    if case .unknown = ContentCoding(fields) { return false }
    guard let type = fields.first(.contentType) else { return true }
    return type.mediaType.equalsIgnoringCase("application/json")
  }

  /// Copies the end-to-end fields that a worker gets (RFC 9110 section 7.6.1). Those that the frontend makes itself,
  /// and codings that would hide the answer from it, stay behind.
  private func keepFields(_ fields: HeaderFields) {
    let propagators = service.configuration.tracing.propagators
    let hasKeys = service.configuration.keys != nil
    let passesKey = service.configuration.passesCallersKey
    let proxies = service.configuration.trustedProxies
    // A peer's address takes a system call: once, and only where there is somebody to trust.
    let isFromProxy = proxies.ranges != nil && proxies.trusts(exchange.peerAddress)
    for index in 0..<fields.count where !fields.isHopByHop(index) {
      switch fields[index].known {
      case .host, .contentLength, .contentEncoding, .expect, .xRequestID, .requestID, .acceptEncoding,
        .xDynamoWorkerID,
        .xDynamoWorkerInstanceID:
        continue
      case .authorization where !passesKey, .xAPIKey where !passesKey: continue
      case .xTenantID where hasKeys: continue
      case .forwarded, .xForwardedFor, .xForwardedProto, .xForwardedHost:
        // What a stranger says of itself must not look like a proxy's word.
        if isFromProxy, !proxies.isStrange(fields[index].known) {
          forwardedFields.header(line: fields.line(index))
        }
      case .traceparent, .tracestate, .baggage, .b3, .xB3TraceID, .xB3SpanID, .xB3ParentSpanID, .xB3Sampled,
        .xB3Flags:
        if trace != nil, propagators.replaces(fields[index].known) { continue }
        forwardedFields.header(line: fields.line(index))
      default:
        // So must not a field of this family that no list has, such as x-forwarded-port.
        if !isFromProxy, fields[index].name.tellsOfClient { continue }
        forwardedFields.header(line: fields.line(index))
      }
    }
    if trace != nil, propagators.usesBaggage, fields.contains(.baggage) {
      let dropped = fields.passBaggage(to: &forwardedFields)
      if dropped > 0 { service.shared.metrics.baggageMembersDropped.add(dropped) }
    }
  }

  // MARK: The body

  func received(body bytes: UnsafeRawBufferPointer) {
    guard case .reading = phase else { return }
    let total = body.count + bytes.count
    let limit = service.configuration.bodyBytesMax
    guard total <= limit else {
      refuse(.bodyTooLarge(limitBytes: limit))
      return
    }
    body.append(bytes)
    countBody()
  }

  func receivedEnd() {
    guard case .reading = phase else { return }
    isBodyWhole = true
    if !isWaitingForMemory { receivedWholeBody() }
  }

  /// The body is here, and counted.
  func receivedWholeBody() {
    times.bodyRead = loop.now
    endBodyLoan()
    tell("request body read") { $0.field(LogKey.bytes, body.count) }
    service.steps.decode(self)
  }
}

extension UnsafeRawBufferPointer {
  /// One of the names by which proxies tell of their client.
  fileprivate var tellsOfClient: Bool {
    let prefix = "x-forwarded-".utf8.count
    return equalsIgnoringCase("x-real-ip")
      || count > prefix && slice(0..<prefix).equalsIgnoringCase("x-forwarded-")
  }
}
