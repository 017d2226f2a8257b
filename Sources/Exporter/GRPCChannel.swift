// OTLP/gRPC on one connection: moves bytes between a socket and an HTTP/2 session.

import Base
import EventLoop
import GRPC
import HTTP
import Transport

/// Socket and session of one connection. Sends no PING of its own: receivers police them, and a call that gets no
/// answer tells of a dead connection as well.
final class GRPCChannel: SocketChannel {
  private enum State {
    case connecting
    case open
    case closed
  }

  private static let notHTTP2 = "the peer does not speak HTTP/2"

  let socket: StreamSocket
  private let session: HTTP2ClientSession
  private let method: GRPCMethod
  private let isSecure: Bool
  /// What the session gives out at a time, with its last frame.
  private let outputBytesMax: Int
  /// Room that the output of the present call wants at a time; 0 is a block of the pool.
  private var outputBytes = 0
  var delegate: (any ExportChannelDelegate)?
  private var state = State.connecting
  private var hasReceived = false
  private(set) var answeredCalls = 0

  /// Takes over `socket`, whose connect was started.
  init(
    _ socket: StreamSocket, configuration: ExporterConfiguration, delegate: any ExportChannelDelegate
  ) throws {
    self.socket = socket
    self.delegate = delegate
    method = configuration.method
    isSecure = configuration.security != nil
    outputBytesMax = configuration.http2.outputBytes + 16_384
    session = try HTTP2ClientSession(limits: configuration.http2)
    try socket.start(self)
  }

  var mayCall: Bool {
    if case .open = state { return session.mayRequest }
    return false
  }

  func call(_ call: ExportCall) {
    // A block of the pool would have to grow several times under a large message.
    let bytes = call.body.count + 1_024
    outputBytes = bytes > BufferPool.blockBytes ? min(bytes, outputBytesMax) : 0
    let head = method.head(timeout: call.timeout, encoding: call.isCompressed ? "gzip" : nil)
    do {
      _ = try session.request(head, body: call.body)
    } catch {
      return fail("HTTP/2: \(error)")
    }
    flush()
  }

  var isClosed: Bool { if case .closed = state { true } else { false } }

  func abandon() { state = .closed }

  // MARK: Socket

  func connected() {
    // A client of HTTP/2 over TLS must have agreed on it (RFC 9113 section 3.2).
    guard !isSecure || socket.applicationProtocol == "h2" else {
      return fail("the collector does not offer HTTP/2 over TLS (ALPN h2)")
    }
    state = .open
    delegate?.channelOpened()
  }

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    hasReceived = true
    do {
      try session.receive(bytes)
    } catch {
      fail(session.receivedSettings ? "HTTP/2: \(error)" : GRPCChannel.notHTTP2)
      return bytes.count
    }
    deliver()
    flush()
    return bytes.count
  }

  func peerClosed() {
    let spokeOtherwise = hasReceived && !session.receivedSettings
    fail(spokeOtherwise ? GRPCChannel.notHTTP2 : "the collector closed the connection")
  }

  func flushed() { flush() }

  /// Hands the socket what the session has to say, a bounded piece at a time.
  private func flush() {
    guard case .open = state else { return }
    if session.wantsOutput {
      if outputBytes > 0 { _ = socket.output.reserve(outputBytes) } else { socket.wantsOutput() }
      do {
        try session.output(into: &socket.output)
      } catch {
        return fail("HTTP/2: \(error)")
      }
    }
    if !socket.output.isEmpty { return socket.wantsFlush() }
    socket.loop.buffers.reclaim(&socket.output)
    // Streams can end without a byte: a request that GOAWAY keeps from leaving.
    deliver()
    if case .open = state, session.isFinished { fail(goAwayText) }
  }

  private func deliver() {
    for exchange in session.takeFinished() {
      answeredCalls += 1
      let wasRefused = if case .refused = exchange.end { true } else { false }
      delegate?.channelAnswered(ExportAnswer(GRPCAnswer(exchange), wasNotBegun: wasRefused))
    }
  }

  private var goAwayText: String {
    if !session.receivedSettings { return GRPCChannel.notHTTP2 }
    guard let goAway = session.goAway else { return "the HTTP/2 session ended" }
    return "GOAWAY with code \(goAway.code) \(goAway.debug)"
  }
}
