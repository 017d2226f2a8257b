// The application's handle on a server connection's exchange: what is answered goes through the response writer.

internal import Base
package import EventLoop
package import HTTP

extension HTTP1ServerConnection: ServerExchange {
  package var outputIsFull: Bool { socket.checkFull() }

  package var peerAddress: SocketAddress? { socket.peerAddress }

  package func closeAfterResponse() { keepAlive = false }

  package func pauseBody() {
    guard case .body = phase else { return }
    bodyPaused = true
    pace.pause(at: loop.now)
    socket.pauseReading()
    deadline = nil
  }

  package func resumeBody() {
    guard case .body = phase, bodyPaused else { return }
    bodyPaused = false
    socket.resumeReading()
    pace.resume(at: loop.now)
    expectBody()
  }

  package func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    guard isOpen, !response.hasBegun else { return }
    // The rest of an unread body would be taken for the next request.
    if case .body = phase { keepAlive = false }
    if server.isDraining { keepAlive = false }
    writeHead(status: status, fields: fields, body: body)
    socket.wantsFlush()
  }

  func writeHead(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    if response.endsWithConnection(body) { keepAlive = false }
    socket.wantsOutput()
    response.beginHead(status: status, fields: fields, body: body, to: &socket.output)
    server.appendDate(to: &socket.output)
    response.endHead(closes: !keepAlive, to: &socket.output)
  }

  package func send(_ bytes: UnsafeRawBufferPointer) {
    guard isOpen, response.takesBody, bytes.count > 0 else { return }
    socket.wantsOutput()
    response.append(bytes, to: &socket.output)
    socket.wantsFlush()
  }

  package func finish(trailers: UnsafeRawBufferPointer) {
    guard isOpen, response.hasBegun, !response.hasFinished else { return }
    guard !response.isShort else {
      // Fewer bytes than promised: only a cut connection tells the caller.
      end(.failed(.truncated))
      return
    }
    if response.endIsWritten { socket.wantsOutput() }
    response.finish(trailers: trailers, to: &socket.output)
    socket.wantsFlush()
  }

  package func abort(_ end: EndOfStream) { self.end(end) }
}
