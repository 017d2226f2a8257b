// OTLP/HTTP with protobuf bodies on one HTTP/1.1 connection.

import Base
import EventLoop
import GRPC
import HTTP
import Transport

/// Socket and codec of one connection: a POST at a time, kept alive between them.
final class HTTPChannel: SocketChannel {
  private enum State {
    case connecting
    case idle
    /// The request is being sent, and the head of its answer is waited for.
    case head
    /// The body of the answer is read.
    case body
    case closed
  }

  let socket: StreamSocket
  private let configuration: ExporterConfiguration
  var delegate: (any ExportChannelDelegate)?
  private var state = State.connecting
  private let parser = HTTP1HeadParser()
  private var decoder = HTTP1BodyDecoder(.none)
  private var scanned = 0
  /// What is being sent, and how much of it the socket was given.
  private var outgoing: HTTP2Body?
  private var outgoingOffset = 0
  private var reply = HTTPReply()
  private(set) var answeredCalls = 0

  /// Takes over `socket`, whose connect was started.
  init(
    _ socket: StreamSocket, configuration: ExporterConfiguration, delegate: any ExportChannelDelegate
  ) throws {
    self.socket = socket
    self.configuration = configuration
    self.delegate = delegate
    try socket.start(self)
  }

  var mayCall: Bool {
    if case .idle = state { return true }
    return false
  }

  func call(_ call: ExportCall) {
    guard case .idle = state else { return }
    state = .head
    scanned = 0
    outgoing = call.body
    outgoingOffset = 0
    let room = min(call.body.count + 1_024, configuration.http2.outputBytes)
    if room > BufferPool.blockBytes { _ = socket.output.reserve(room) } else { socket.wantsOutput() }
    writeHead(call)
    fill()
  }

  var isClosed: Bool { if case .closed = state { true } else { false } }

  func abandon() {
    state = .closed
    outgoing = nil
  }

  // MARK: The request

  private func writeHead(_ call: ExportCall) {
    let target = configuration.method
    var path = target.path
    path.withUTF8 { socket.output.beginRequest(.post, target: UnsafeRawBufferPointer($0)) }
    line("host", target.authority)
    line("user-agent", target.userAgent)
    line("content-type", "application/x-protobuf")
    if call.isCompressed { line("content-encoding", "gzip") }
    line("content-length", String(call.body.count))
    for (name, value) in target.metadata { line(name, value) }
    socket.output.append("\r\n" as StaticString)
  }

  private func line(_ name: String, _ value: String) {
    socket.output.append(name)
    socket.output.append(": " as StaticString)
    socket.output.append(value)
    socket.output.append("\r\n" as StaticString)
  }

  /// Gives the socket as much of the body as one piece of output holds.
  private func fill() {
    if let outgoing {
      let room = configuration.http2.outputBytes - socket.output.count
      let end = min(outgoing.count, outgoingOffset + max(room, 0))
      outgoing.append(outgoingOffset..<end, to: &socket.output)
      outgoingOffset = end
      if end == outgoing.count { self.outgoing = nil }
    }
    if !socket.output.isEmpty { socket.wantsFlush() }
  }

  // MARK: Socket

  func connected() {
    state = .idle
    delegate?.channelOpened()
  }

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count {
      let rest = bytes.slice(offset..<bytes.count)
      switch state {
      case .head:
        let taken = receivedHead(rest)
        if taken == 0 { return offset }
        offset += taken
      case .body:
        offset += receivedBody(rest)
      case .idle:
        // Nobody asked: whatever it is, the next call must not see it.
        fail("the collector sent bytes that belong to no call")
        return bytes.count
      case .connecting, .closed:
        return bytes.count
      }
    }
    return offset
  }

  private func receivedHead(_ bytes: UnsafeRawBufferPointer) -> Int {
    switch parser.parseResponse(bytes, alreadyScanned: &scanned, toMethod: .post) {
    case .needMore:
      return 0
    case .head(let head, let length):
      scanned = 0
      if head.status == 101 {
        fail("the collector switched to another protocol")
        return bytes.count
      }
      // Interim responses are the business of this hop (RFC 9110 section 15.2).
      if head.status < 200 { return length }
      state = .body
      reply = HTTPReply(head, wallSeconds: socket.loop.system.wallNanoseconds() / second)
      decoder = HTTP1BodyDecoder(head.framing)
      if decoder.isComplete { finish() }
      return length
    case .failed(let error):
      fail("the collector's answer is no HTTP/1.1: \(error.message)")
      return bytes.count
    }
  }

  private func receivedBody(_ bytes: UnsafeRawBufferPointer) -> Int {
    var consumed = 0
    while case .body = state {
      switch decoder.next(bytes, consumed: &consumed) {
      case .bytes(let piece): reply.append(piece)
      case .needMore: return consumed
      case .end: finish()
      case .failed(let error):
        fail("the collector's answer is no HTTP/1.1: \(error.message)")
        return bytes.count
      }
      // A body by length is over with its last byte.
      if case .body = state, decoder.isComplete { finish() }
    }
    return consumed
  }

  private func finish() {
    answeredCalls += 1
    let answer = reply.answer()
    let keepsAlive = reply.keepsAlive && outgoing == nil && socket.output.isEmpty
    reply = HTTPReply()
    let delegate = delegate
    // An answer before the end of the request says that the rest of it is not wanted.
    if keepsAlive { state = .idle } else { close() }
    delegate?.channelAnswered(answer)
  }

  func peerClosed() {
    // The end of the connection may be the end of the body (RFC 9112 section 6.3).
    if case .body = state, case .end = decoder.inputEnded() {
      reply.keepsAlive = false
      return finish()
    }
    fail("the collector closed the connection")
  }

  func flushed() { if outgoing != nil { fill() } }
}
