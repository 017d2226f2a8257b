// One request to a worker as a stream of a shared HTTP/2 connection.

internal import Base
internal import EventLoop
package import HTTP

/// A request that waits for a stream, or has one. Its handler hears the same as over HTTP/1.1.
package final class HTTP2ClientStream: HTTP2StreamOwner {
  let stream = HTTP2Stream()
  private var handler: (any ClientExchangeHandler)?
  private let method: HTTP.Method
  /// Sent again already: a further refusal is the worker's fault.
  private let isRetry: Bool
  /// Where it runs; nil while it waits and once it is over.
  private var connection: HTTP2ClientConnection?
  /// Where it waits for a stream.
  private var lane: HTTP2Lane?
  /// Until when it waits there.
  private(set) var waitsUntil: Nanoseconds = 0
  /// Reads of the connection when it began: without a later one nothing has answered it.
  private var readsBefore = 0
  private var sawHead = false
  private(set) var silentSince: Nanoseconds = 0

  init(_ method: HTTP.Method, isRetry: Bool, _ handler: any ClientExchangeHandler) {
    self.method = method
    self.isRetry = isRetry
    self.handler = handler
  }

  /// True when it runs on a connection that has heard of the worker before.
  package var isReused: Bool { readsBefore > 0 }

  // MARK: Beginnings

  /// Waits in `lane` for a stream.
  func wait(in lane: HTTP2Lane, until deadline: Nanoseconds) {
    self.lane = lane
    waitsUntil = deadline
  }

  /// Runs on `connection` from here on.
  func began(on connection: HTTP2ClientConnection) {
    lane = nil
    self.connection = connection
    readsBefore = connection.reads
    silentSince = connection.loop.now
  }

  // MARK: The exchange's side

  func cancel() {
    handler = nil
    if let lane {
      self.lane = nil
      lane.leave(self)
    } else if let connection {
      self.connection = nil
      connection.reset(stream, code: HTTP2ErrorCode.cancel)
    }
    stream.output.release()
  }

  func pause() { connection?.session.pause(stream) }

  func resume() {
    guard stream.isPaused, let connection else { return }
    silentSince = connection.loop.now
    connection.session.unpause(stream)
    connection.flush()
  }

  // MARK: The session's side

  package func received(head text: UnsafeRawBufferPointer) {
    guard let connection, let handler else { return }
    silentSince = connection.loop.now
    var scanned = 0
    switch connection.pool.parser.parseResponse(text, alreadyScanned: &scanned, toMethod: method) {
    case .head(let head, _):
      // Interim responses are the business of this hop (RFC 9110 section 15.2).
      guard head.status >= 200 else { return }
      sawHead = true
      handler.responded(head)
    case .needMore:
      break
    case .failed(let error):
      connection.reset(stream, code: HTTP2ErrorCode.protocolError)
      fail(.malformed(error))
    }
  }

  package func received(body: UnsafeRawBufferPointer) {
    guard let connection else { return }
    silentSince = connection.loop.now
    handler?.received(body: body)
  }

  package func receivedEnd(trailers: UnsafeRawBufferPointer) {
    guard let connection else { return }
    // An answer that came before all of the request was sent: the rest is of no use.
    if !stream.output.isEmpty { connection.reset(stream, code: HTTP2ErrorCode.noError) }
    let handler = handler
    self.handler = nil
    self.connection = nil
    handler?.receivedEnd(trailers: trailers)
  }

  package func outputMoved() {}

  package func ended(_ end: HTTP2StreamEnd) {
    switch end {
    case .refused: fail(sawHead || isRetry ? .broken : .stale)
    case .malformed: fail(.protocolError)
    case .complete, .reset, .cancelled: fail(.broken)
    }
  }

  /// The connection ended as `failure`, or, where nil, went away. Where its peer `spokeHTTP2` and broke a rule later, who
  /// had heard nothing of it may ask another.
  func lostConnection(_ failure: UpstreamFailure?, spokeHTTP2: Bool) {
    guard let connection else { return }
    if case .protocolError = failure, spokeHTTP2, !sawHead { return fail(.broken) }
    if let failure { return fail(failure) }
    // As over HTTP/1.1: where nothing came since, the worker may have left before it saw this.
    let isStale = !isRetry && readsBefore > 0 && connection.reads == readsBefore
    fail(isStale ? .stale : .broken)
  }

  /// Ends it without an answer.
  func fail(_ failure: UpstreamFailure) {
    let loop = connection?.loop ?? lane?.loop
    let handler = handler
    self.handler = nil
    connection = nil
    lane = nil
    stream.output.release()
    guard let handler, let loop else { return }
    // A handler never hears of a failure from inside its own call to `send`.
    loop.atEndOfTick(PendingFailure(handler, failure))
  }

  /// Looks whether nothing came for `timeout`; returns when to look again, nil where it is over.
  func checkSilence(_ timeout: Nanoseconds) -> Nanoseconds? {
    guard let connection, handler != nil else { return nil }
    let now = connection.loop.now
    if stream.isPaused { silentSince = now }
    guard silentSince + timeout <= now else { return silentSince + timeout }
    connection.reset(stream, code: HTTP2ErrorCode.cancel)
    fail(.silent)
    return nil
  }
}
