// One request relayed to an attached engine: head held back until the first byte, events counted, one end.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport

/// Relays one request and its response.
final class OpenAIGeneration: Generation, ClientExchangeHandler {
  private let exchange: InferenceExchange
  private let backend: OpenAIBackend
  private var connection: UpstreamExchange?
  private var id: [UInt8] = []
  private var hasRetried = false
  private var isOver = false

  private var status = 0
  private var fields = ByteBuffer()
  private var framing = ResponseBody.stream
  private var isEventStream = false
  private var scanner = SSEScanner()
  private var inspector = ChunkInspector()
  /// The beginning of an event that has not come whole; of an answer that is not streamed, the answer.
  private var held = ByteBuffer()
  private var holdsAll = true
  private var chunkCount = 0
  private var sawDone = false

  /// Longest event, and longest whole answer, that is looked into; longer ones are only passed on.
  private static let inspectedBytesMax = 1 << 20

  init(_ exchange: InferenceExchange, backend: OpenAIBackend) {
    self.exchange = exchange
    self.backend = backend
    inspector.form = exchange.endpoint.form
  }

  var nextEvent: Int { (inspector.sequence ?? -1) + 1 }

  // MARK: The request

  func start(fresh: Bool) {
    id = backend.admit(exchange.identity.xRequestID, again: fresh)
    let exchange = exchange
    let backend = backend
    let id = id
    connection = backend.pool.send(to: backend.upstream, method: .post, fresh: fresh, handler: self) { out in
      Self.compose(exchange, id: id, backend: backend, to: &out)
    }
  }

  private static func compose(
    _ exchange: InferenceExchange, id: [UInt8], backend: OpenAIBackend, to out: inout ByteBuffer
  ) {
    out.append("POST " as StaticString)
    out.append(backend.upstream.pathPrefix)
    out.append(exchange.endpoint.path)
    out.append(" HTTP/1.1\r\n" as StaticString)
    header("host", backend.upstream.authority, to: &out)
    out.header("content-type", "application/json" as StaticString)
    out.header("accept", exchange.isStream ? "text/event-stream" as StaticString : "application/json")
    out.header("content-length", exchange.body.count)
    header("x-request-id", id, to: &out)
    header("authorization", backend.authorization, to: &out)
    out.append(exchange.versionFields)
    let identity = exchange.identity
    if let context = identity.generate {
      exchange.worker.shared.telemetry.propagators.inject(
        context, isDebug: identity.isDebug, traceState: identity.traceState, into: &out)
      out.append(identity.baggage)
    }
    out.endHead()
    out.append(exchange.body.readable)
  }

  private static func header(_ name: StaticString, _ value: [UInt8], to out: inout ByteBuffer) {
    guard !value.isEmpty else { return }
    value.withUnsafeBytes { out.header(name, $0) }
  }

  // MARK: The response

  func responded(_ head: ResponseHead) {
    guard !isOver else { return }
    status = head.status
    if status == 401 || status == 403 {
      connection?.cancel()
      fail(.workerAuth, kind: "engine_auth")
      return
    }
    for index in 0..<head.fields.count where passes(head.fields, index) {
      fields.header(line: head.fields.line(index))
    }
    if let type = head.fields.first(.contentType) { isEventStream = Self.isEventStream(type) }
    if isEventStream { fields.header("x-accel-buffering", "no" as StaticString) }
    switch head.framing {
    case .none: framing = .length(0)
    case .length(let length): framing = .length(length)
    case .chunked, .untilClose: framing = .stream
    }
    // An error is told at once; a 200 waits for its first byte, so that a failure before it is a failure of the head.
    if status >= 300 { begin() }
  }

  /// End-to-end fields of the engine, less what this server says itself.
  private func passes(_ fields: HeaderFields, _ index: Int) -> Bool {
    if fields.isHopByHop(index) { return false }
    switch fields[index].known {
    case .contentLength, .date, .xRequestID, .traceresponse, .xAccelBuffering: return false
    default: return true
    }
  }

  private static func isEventStream(_ type: UnsafeRawBufferPointer) -> Bool {
    type.mediaType.equalsIgnoringCase("text/event-stream")
  }

  private func begin() {
    guard !exchange.hasBegun else { return }
    exchange.respond(status: status, fields: fields.readable, body: framing)
    fields.release()
  }

  func received(body: UnsafeRawBufferPointer) {
    guard !isOver, !body.isEmpty else { return }
    begin()
    if isEventStream { inspectEvents(body) } else { gather(body) }
    exchange.send(body)
    if exchange.outputIsFull { connection?.pause() }
  }

  func outputDrained() { connection?.resume() }

  private func gather(_ body: UnsafeRawBufferPointer) {
    guard holdsAll else { return }
    if held.count + body.count > Self.inspectedBytesMax {
      holdsAll = false
      held.release()
    } else {
      held.append(body)
    }
  }

  private func inspectEvents(_ body: UnsafeRawBufferPointer) {
    if held.isEmpty {
      let rest = inspectEvents(in: body)
      if rest < body.count { held.append(body.slice(rest..<body.count)) }
    } else {
      held.append(body)
      held.consume(inspectEvents(in: held.readable))
    }
    guard held.count > Self.inspectedBytesMax else { return }
    // An event without end: pass it on and stop looking.
    isEventStream = false
    holdsAll = false
    held.release()
  }

  /// Looks at the whole events of `bytes`; returns where the incomplete one begins.
  private func inspectEvents(in bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while let event = scanner.next(bytes, from: &offset) {
      guard let data = event.data else { continue }
      switch inspector.inspect(data) {
      case .token:
        chunkCount += 1
        exchange.report.sawToken(at: exchange.worker.loop.now)
      case .done: sawDone = true
      case .error: exchange.report.errorKind = "engine_error"
      case .usageOnly, .other: break
      }
    }
    return offset
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    guard !isOver else { return }
    begin()
    end()
    exchange.finish()
  }

  // MARK: Ends

  func failed(_ failure: UpstreamFailure) {
    guard !isOver else { return }
    connection = nil
    switch failure {
    case .stale where !hasRetried && !exchange.hasBegun:
      hasRetried = true
      backend.dismiss(id)
      start(fresh: true)
    case .connect(let error):
      backend.unreachable()
      fail(Self.unavailable("the engine cannot be reached (\(error))"), kind: "cannot_connect")
    case .connectTimeout:
      backend.unreachable()
      fail(Self.unavailable("the engine did not accept a connection in time"), kind: "connection_timeout")
    case .silent: fail(.upstreamTimeout, kind: "response_timeout")
    case .malformed(let error):
      fail(.badGateway("the engine broke the protocol: \(error.message)"), kind: "malformed")
    case .protocolError: fail(.badGateway("the engine broke the protocol"), kind: "malformed")
    case .busy: fail(Self.unavailable("it takes no more requests at once"), kind: "overloaded")
    case .stale, .broken: fail(.badGateway("the engine closed the connection"), kind: "disconnected")
    }
  }

  /// 503 rather than 502: the request never reached an engine, so the frontend may try it at another worker.
  private static func unavailable(_ reason: String) -> APIError {
    APIError(
      status: 503, code: "engine_unavailable", message: "The worker has no engine now: \(reason).",
      retryAfterSeconds: 1)
  }

  private func fail(_ error: APIError, kind: StaticString) {
    let isStreamBegun = exchange.hasBegun
    exchange.report.errorKind = kind
    end()
    exchange.worker.log(.warn, target: LogTarget.engine) { line in
      line.begin(
        .warn, target: LogTarget.engine, message: "engine failed a request",
        at: exchange.worker.loop.system.wallNanoseconds())
      line.field(LogKey.error, error.message)
      line.field(LogKey.errorType, kind)
      exchange.trace { line.trace($0) }
      line.end()
    }
    // An error event can only follow a whole event; in a body that is no stream the cut is all that can be said.
    if isStreamBegun, !isEventStream || !held.isEmpty { exchange.abort(error) } else { exchange.fail(error) }
  }

  func cancel() {
    guard !isOver else { return }
    exchange.report.isCancelled = true
    connection?.cancel()
    end()
  }

  /// Gathers what is known of the generation; once.
  private func end() {
    isOver = true
    connection = nil
    backend.dismiss(id)
    exchange.report.ended = exchange.worker.loop.now
    var usage = inspector.usage
    var finish = inspector.finishReason
    if !isEventStream, holdsAll, status == 200, !held.isEmpty,
      let answer = AnswerSummary.read(held.readable, form: exchange.endpoint.form)
    {
      usage = answer.usage
      finish = answer.finishReason
    }
    if let usage {
      exchange.report.inputTokens = usage.promptTokens
      if exchange.endpoint.generates { exchange.report.outputTokens = usage.completionTokens }
      exchange.report.cachedTokens = usage.cachedTokens
    } else if chunkCount > 0 {
      exchange.report.outputTokens = chunkCount
    }
    if let name = finish.name { exchange.report.finishReason = "\(name)" }
  }
}
