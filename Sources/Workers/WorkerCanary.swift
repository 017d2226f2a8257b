// A canary: one small generation by which an idle worker shows that it still generates.

package import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Transport

/// Dynamo's canary health checks (`DYN_HEALTH_CHECK_*`, `DYN_CANARY_WAIT_TIME`).
package struct CanaryConfiguration: Sendable, Equatable {
  /// How long a worker is idle before it is asked.
  package var wait: Nanoseconds = 10 * second
  /// From the connect to the answer's end.
  package var timeout: Nanoseconds = 3 * second
  /// The body that is sent; empty for one token of a short chat.
  package var payload: [UInt8] = []

  package init() {}

  /// Why ``payload`` cannot be sent; nil when it can.
  var fault: String? {
    guard !payload.isEmpty else { return nil }
    let json = payload.withUnsafeBytes { bytes in try? JSONValue.parse(bytes) }
    guard case .object = json else { return "DYN_HEALTH_CHECK_PAYLOAD is no JSON object" }
    return nil
  }
}

/// What is asked, and where.
struct CanaryQuestion: Equatable {
  let endpoint: Endpoint
  let body: [UInt8]

  /// For a worker that serves `model` at `endpoints`; nil when it generates nothing. A payload with a `prompt` is a
  /// completion's, any other a chat's.
  init?(payload: [UInt8], model: String, endpoints: EndpointSet) {
    guard payload.isEmpty else {
      let json = payload.withUnsafeBytes { bytes -> JSONValue? in
        do throws(JSONError) { return try JSONValue.parse(bytes) } catch { return nil }
      }
      endpoint = json?["prompt"] == nil ? .chatCompletions : .completions
      body = payload
      return
    }
    let isChat = endpoints.contains(.chatCompletions)
    guard isChat || endpoints.contains(.completions) else { return nil }
    endpoint = isChat ? .chatCompletions : .completions
    var text = ByteBuffer(capacity: 128)
    text.append("{\"model\":" as StaticString)
    text.append(jsonString: model)
    text.append(
      isChat
        ? ",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}],\"max_tokens\":1}" as StaticString
        : ",\"prompt\":\"ping\",\"max_tokens\":1}")
    body = text.readable.map { $0 }
  }
}

/// One canary under way. Loop-confined.
final class WorkerCanary: ProbeInFlight, ClientExchangeHandler, TimerHandler {
  private let pool: UpstreamPool
  private var report: ((CanaryOutcome) -> Void)?
  private let timer = Timer()
  private var connection: UpstreamExchange?
  private var status = 0

  init(pool: UpstreamPool, report: @escaping (CanaryOutcome) -> Void) {
    self.pool = pool
    self.report = report
  }

  func start(
    _ upstream: Upstream, _ question: CanaryQuestion, authorization: String?, timeout: Nanoseconds
  ) {
    pool.loop.arm(timer, at: pool.loop.now + timeout, self)
    connection = pool.send(to: upstream, method: .post, fresh: true, handler: self) { out in
      out.append("POST " as StaticString)
      out.append(upstream.pathPrefix)
      out.append(question.endpoint.path)
      out.append(" HTTP/1.1\r\n" as StaticString)
      upstream.authority.withUnsafeBytes { out.header("host", $0) }
      out.append("content-type: application/json\r\n" as StaticString)
      if let authorization { out.header("authorization", text: authorization) }
      out.header("content-length", question.body.count)
      out.endHead()
      out.append(question.body)
    }
  }

  func cancel() {
    report = nil
    end()
  }

  private func end() {
    pool.loop.cancel(timer)
    connection?.cancel()
    connection = nil
  }

  private func finish(_ outcome: CanaryOutcome) {
    let report = report
    self.report = nil
    end()
    report?(outcome)
  }

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body: UnsafeRawBufferPointer) {}

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    connection = nil
    switch status {
    case 200..<300: finish(.served)
    // Neither overload (529) is an illness nor a route that it lacks (501).
    case 500, 502..<529, 530...: finish(.failed("status \(status)"))
    default: finish(.undecided(status: status))
    }
  }

  func failed(_ failure: UpstreamFailure) {
    connection = nil
    switch failure {
    case .busy: finish(.undecided(status: 0))
    case .connect(let error): finish(.failed("\(error)"))
    case .connectTimeout: finish(.failed("the connection was not made in time"))
    case .silent: finish(.timedOut)
    case .stale, .broken: finish(.failed("it closed the connection"))
    case .malformed, .protocolError: finish(.failed("its answer cannot be read"))
    }
  }

  func timerFired(_ timer: Timer) { finish(.timedOut) }
}
