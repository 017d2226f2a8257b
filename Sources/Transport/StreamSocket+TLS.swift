// TLS between a socket and its handler: the handler reads and writes plaintext and need not know.

internal import Base
package import EventLoop
internal import TLS

/// The TLS of one socket.
///
/// What is encrypted stays at the head of the socket's output until its ciphertext is with the kernel, so that "the
/// output is empty" means the same with and without TLS.
final class SocketTLS {
  let connection: TLSConnection
  let security: SocketSecurity
  /// The handshake's deadline.
  let timer = Timer()
  /// The handshake's end has been told.
  var isOpen = false
  /// Bytes at the head of the output whose ciphertext waits in the connection.
  var sealedCount = 0

  init(_ security: SocketSecurity) throws(TLSError) {
    self.security = security
    connection = try TLSConnection(
      security.context, serverName: security.serverName, sessions: security.sessions)
  }
}

/// What a handler means by closing.
package enum SocketClose {
  /// All was said: the peer is told so.
  case done
  /// Something was cut off: without close_notify the peer can know (RFC 8446 section 6.1).
  case cut
  /// The peer took too long.
  case timedOut
}

extension StreamSocket: TimerHandler {
  /// Where plaintext is gathered, and where ciphertext is read: the halves of the loop's scratch memory.
  private var plainRoom: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: loop.scratch[..<(loop.scratch.count / 2)])
  }

  var sealedRoom: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: loop.scratch[(loop.scratch.count / 2)...])
  }

  // MARK: Handshake

  /// The connection stands: the client begins, and the time runs.
  func beginHandshake(_ tls: SocketTLS) {
    loop.arm(tls.timer, at: loop.now + tls.security.timeout, self)
    guard !tls.security.context.isServer else { return }
    do throws(TLSError) {
      try tls.connection.start()
      flushSealed()
    } catch {
      fail(.tls(error))
    }
  }

  package func timerFired(_ timer: Timer) {
    fail(.tls(TLSError(.timedOut, "the handshake took too long")))
  }

  private func noteHandshake(_ tls: SocketTLS) {
    guard tls.connection.isOpen, !tls.isOpen, !isClosed else { return }
    tls.isOpen = true
    loop.cancel(tls.timer)
    tls.security.counters.open(resumed: tls.connection.isResumed)
    if !tls.security.context.isServer { handler?.connected() }
    if !output.isEmpty { wantsFlush() }
  }

  // MARK: Reading

  /// Delivers the plaintext of `bytes`.
  func received(sealed bytes: UnsafeRawBufferPointer) {
    guard let tls, !tls.connection.peerHasClosed else { return }
    do throws(TLSError) {
      try tls.connection.receive(bytes, into: plainRoom) { plain in
        noteHandshake(tls)
        if !isClosed { deliver(appended: plain) }
        return !isClosed
      }
    } catch {
      fail(.tls(error))
      return
    }
    noteHandshake(tls)
    guard !isClosed else { return }
    if !tls.connection.outgoing.isEmpty { wantsFlush() }
    if tls.connection.peerHasClosed { reportCloseNotify() }
  }

  /// The peer's end comes after its bytes, unless the handler wants to know at once.
  func reportCloseNotify() {
    if readPaused, !reportsEndWhilePaused {
      readPending = true
    } else {
      reportPeerClosed()
    }
  }

  /// True when what a read found (0 for the end, else an error) is the end of a TLS connection, which is then told.
  ///
  /// One that ends below TLS may lack bytes: a request is whole or not by its own framing, but an answer may be framed
  /// by its connection, so that a client must fail (RFC 9112 section 9.8).
  func endedWithTLS(_ result: Int) -> Bool {
    guard let tls else { return false }
    if tls.connection.peerHasClosed {
      reportPeerClosed()
      return true
    }
    guard result == 0 else { return false }
    if !tls.isOpen {
      fail(.tls(TLSError(.closed, "the peer left during the handshake")))
    } else if tls.security.context.isServer {
      reportPeerClosed()
    } else {
      fail(.tls(TLSError(.truncated, "the connection ended without close_notify")))
    }
    return true
  }

  // MARK: Writing

  /// Encrypts and sends, a bounded piece of the output at a time.
  func flushSealed() {
    guard let handler, let tls else { return }
    if tls.isOpen { handler.willFlush() }
    while true {
      guard sendSealed(tls) else { break }
      guard tls.isOpen, !output.isEmpty else { break }
      let piece = output.readable.slice(0..<min(output.count, TLSConnection.sendBytesMax))
      loop.buffers.lend(to: &tls.connection.outgoing)
      do throws(TLSError) {
        try tls.connection.send(piece)
      } catch {
        fail(.tls(error))
        return
      }
      tls.sealedCount = piece.count
    }
    if !isClosed { finishFlush(handler) }
  }

  /// Sends waiting ciphertext. True when none is left; false when the socket is full or closed by an error.
  private func sendSealed(_ tls: SocketTLS) -> Bool {
    while let start = tls.connection.outgoing.readable.baseAddress, !tls.connection.outgoing.isEmpty {
      guard let sent = send(start, tls.connection.outgoing.count) else { return false }
      tls.connection.outgoing.consume(sent)
    }
    loop.buffers.reclaim(&tls.connection.outgoing)
    output.consume(tls.sealedCount)
    tls.sealedCount = 0
    return true
  }

  /// Says close_notify as far as the socket takes it.
  func closeSending(_ tls: SocketTLS) {
    guard tls.isOpen, writable, tls.connection.outgoing.isEmpty else { return }
    tls.connection.closeSending()
    sendLast(tls)
  }

  /// Ends TLS with the socket. What cannot be sent at once is lost.
  func end(_ tls: SocketTLS, _ how: SocketClose) {
    loop.cancel(tls.timer)
    if !tls.isOpen, !connecting {
      let kind: TLSError.Kind = if case .timedOut = how { .timedOut } else { .closed }
      tls.security.counters.fail(kind)
      tls.isOpen = true
    } else if case .done = how, output.isEmpty {
      closeSending(tls)
    }
  }

  /// Counts a failed handshake, and lets the peer know why.
  func tell(_ failure: SocketFailure, _ tls: SocketTLS) {
    let kind: TLSError.Kind = if case .tls(let error) = failure { error.kind } else { .closed }
    if !tls.isOpen, !connecting {
      tls.security.counters.fail(kind)
      if kind == .plainHTTP {
        tls.connection.outgoing.removeAll()
        tls.connection.outgoing.append(
          "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 27\r\n\r\nThis port speaks HTTPS only"
            as StaticString)
      }
    }
    // Counted, and with nothing more to say: closing adds nothing.
    tls.isOpen = true
    if case .tls = failure, writable { sendLast(tls) }
  }

  private func sendLast(_ tls: SocketTLS) {
    guard let start = tls.connection.outgoing.readable.baseAddress else { return }
    _ = loop.system.send(descriptor, start, tls.connection.outgoing.count)
    tls.connection.outgoing.release()
  }
}
