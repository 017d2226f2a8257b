// One socket on its loop: reading with a budget, output gathered until the end of the tick, backpressure, one end.

package import Base
package import EventLoop
internal import Glibc
internal import TLS

/// What a stream socket tells its owner. All calls come on the loop's thread.
package protocol StreamSocketHandler: AnyObject {
  /// Bytes arrived; they are valid during the call. Returns how many were consumed: the rest is kept by the socket and
  /// offered again, with more behind it.
  func received(_ bytes: UnsafeRawBufferPointer) -> Int
  /// A connect succeeded, and with TLS its handshake.
  func connected()
  /// The peer sends no more (FIN). Reported once.
  func peerClosed()
  /// Output is about to be sent: finish what was left open at its end.
  func willFlush()
  /// All output was accepted by the kernel.
  func flushed()
  /// The kernel took only a part of the output; the rest goes when it has room.
  func stalled()
  /// Output that had passed the high watermark is below the low one again.
  func drained()
  /// The socket is closed by an error; nothing is reported afterwards.
  func failed(_ error: SocketFailure)
}

/// A non-blocking socket that reads into the loop's scratch memory and writes once a tick.
///
/// An idle socket owns no buffer: unconsumed input and unsent output live in buffers that are lent and reclaimed. With
/// TLS (`StreamSocket+TLS.swift`) input and output are plaintext still.
package final class StreamSocket: EventHandler, TickHandler {
  /// Unsent output above which the producer must pause.
  package static let highWatermark = 256 * 1024
  /// Unsent output below which a paused producer may go on.
  package static let lowWatermark = 64 * 1024
  /// Bytes read for one connection in one turn, so that a fast peer cannot starve the others.
  static let readBudget = 256 * 1024

  package let loop: EventLoop
  let descriptor: Int32
  private let security: SocketSecurity?
  /// Asked for nothing but its presence on the path of plain text.
  private(set) var tls: SocketTLS?
  private(set) var handler: (any StreamSocketHandler)?
  private var registration: Registration?
  /// What waits to be sent; append to it, then call ``wantsFlush()``.
  package var output = ByteBuffer()
  private var input = ByteBuffer()
  /// Whether a FIN is told at once while reading is paused. A caller that leaves must be noticed; a worker's end comes
  /// after its bytes.
  package var reportsEndWhilePaused = true
  private(set) var connecting: Bool
  private let group: ReadGroup
  private(set) var writable: Bool
  private var flushQueued = false
  private(set) var readPaused = false
  var readPending = false
  private var reading = false
  private var peerDone = false
  private var wasFull = false
  private(set) package var isClosed = false
  /// When the last byte of output was accepted; for write-stall deadlines.
  package private(set) var lastProgress: Nanoseconds

  /// Adopts `descriptor`; `connecting` when a non-blocking connect is under way. Follow with ``start(_:)``.
  package init(
    _ descriptor: Int32, on loop: EventLoop, connecting: Bool, security: SocketSecurity? = nil
  ) {
    self.loop = loop
    self.security = security
    self.descriptor = descriptor
    self.connecting = connecting
    group = connecting ? .replies : .requests
    writable = !connecting
    lastProgress = loop.now
  }

  /// Begins to report to `handler`, which owns the socket; ``close()`` ends the mutual ownership.
  /// When registration fails, or TLS has no memory, the socket is closed.
  package func start(_ handler: any StreamSocketHandler) throws(SocketFailure) {
    self.handler = handler
    do throws(SystemError) {
      registration = try loop.register(descriptor, self)
    } catch {
      close()
      throw .system(error)
    }
    guard let security else { return }
    do throws(TLSError) {
      let tls = try SocketTLS(security)
      self.tls = tls
      if !connecting { beginHandshake(tls) }
    } catch {
      close()
      throw .tls(error)
    }
  }

  /// Reports to another handler from now on.
  package func handOver(to handler: any StreamSocketHandler) {
    if !isClosed { self.handler = handler }
  }

  /// The application protocol that a TLS handshake agreed upon (ALPN); nil when none was.
  package var applicationProtocol: String? { tls?.connection.applicationProtocol }

  /// Whether unsent output is above the high watermark. Whoever is told so hears `drained` once it is low again.
  package func checkFull() -> Bool {
    guard output.count > Self.highWatermark else { return false }
    wasFull = true
    return true
  }

  /// Gets output ready to be appended to.
  @inlinable
  package func wantsOutput() {
    if !output.hasMemory { loop.buffers.lend(to: &output) }
  }

  /// Sends what is in ``output`` at the end of this wake-up.
  package func wantsFlush() {
    guard !flushQueued, !isClosed else { return }
    flushQueued = true
    loop.atEndOfTick(self)
  }

  /// Stops delivering input; a FIN is still reported.
  package func pauseReading() { readPaused = true }

  /// Delivers input again, beginning with what was left, at the end of this wake-up.
  package func resumeReading() {
    guard readPaused, !isClosed else { return }
    readPaused = false
    if readPending || !input.isEmpty { wantsFlush() }
  }

  /// Number of bytes that were read and not consumed.
  package var unconsumedCount: Int { input.count }

  /// Tells the peer that no more output follows.
  package func shutdownSending() {
    guard !isClosed else { return }
    if let tls { closeSending(tls) }
    loop.system.shutdownSending(descriptor)
  }

  /// Whom a trusted proxy says the connection comes from.
  var statedPeer: SocketAddress?

  /// The address at the other end, or behind a proxy that told it; for cold paths.
  package var peerAddress: SocketAddress? { statedPeer ?? Sockets.peerAddress(descriptor) }

  /// Closes at once; unsent output is lost. Idempotent, reports nothing.
  package func close(_ how: SocketClose = .done) {
    guard !isClosed else { return }
    isClosed = true
    handler = nil
    if let tls { end(tls, how) }
    if let registration { loop.deregister(registration) }
    loop.system.close(descriptor)
    output.removeAll()
    loop.buffers.reclaim(&output)
    // While input is being delivered its bytes are still in use; the delivering call releases them.
    if !reading { input.release() }
  }

  package func ready(_ readiness: Readiness) {
    if connecting {
      finishConnect()
      if isClosed || connecting { return }
    }
    if readiness.isWritable, !writable {
      writable = true
      if !output.isEmpty || tls != nil { flush() }
      if isClosed { return }
    }
    let ended = readiness.hasEnded
    guard readiness.isReadable || ended else { return }
    if ended || peerDone || readPaused || tls != nil { read(toEnd: ended) } else { gather() }
  }

  package func arrived(_ bytes: UnsafeRawBufferPointer) {
    // What was delivered before it may have paused this socket.
    if readPaused { input.append(bytes) } else { deliver(appended: bytes) }
  }

  package func endOfTick() {
    flushQueued = false
    guard !isClosed else { return }
    if output.isEmpty, tls == nil { handler?.flushed() } else if writable { flush() }
    guard !isClosed, !readPaused else { return }
    if !input.isEmpty { deliver(appended: UnsafeRawBufferPointer(start: nil, count: 0)) }
    if readPending, !readPaused, !isClosed { read(toEnd: peerDone) }
  }

  private func finishConnect() {
    let code = loop.system.pendingError(descriptor)
    guard code == 0 else {
      fail(.system(SystemError("connect", code)))
      return
    }
    connecting = false
    writable = true
    if let tls {
      beginHandshake(tls)
      return
    }
    handler?.connected()
    if !isClosed, !output.isEmpty { flush() }
  }

  // MARK: Reading

  /// Reads once, together with whatever else is ready; `arrived` follows.
  private func gather() {
    guard let registration else { return }
    readPending = false
    let (count, filledRoom) = loop.gather(registration, from: descriptor, group)
    if count <= 0 {
      finishRead(count)
    } else if filledRoom {
      readPending = true
      wantsFlush()
    }
  }

  private func read(toEnd ended: Bool) {
    if ended { peerDone = true }
    guard !readPaused else {
      readPending = true
      // The caller left in the middle of its request: that must not wait until its input is read.
      if ended, reportsEndWhilePaused { reportPeerClosed() }
      return
    }
    readPending = false
    let scratch = tls == nil ? loop.scratch : sealedRoom
    guard let memory = scratch.baseAddress else { return }
    var budget = Self.readBudget
    while true {
      let count = loop.system.receive(descriptor, memory, scratch.count)
      if count <= 0 {
        finishRead(count)
        return
      }
      let bytes = UnsafeRawBufferPointer(start: memory, count: count)
      if tls == nil { deliver(appended: bytes) } else { received(sealed: bytes) }
      if isClosed { return }
      // A short read means that the socket is empty, unless the peer's end came with the same event: epoll tells what
      // comes next, so that a pause needs no read of its own when it ends.
      if count < scratch.count, !peerDone { return }
      budget -= count
      if readPaused || budget <= 0 {
        readPending = true
        if !readPaused { wantsFlush() } else if peerDone, reportsEndWhilePaused { reportPeerClosed() }
        return
      }
    }
  }

  private func finishRead(_ result: Int) {
    if tls != nil, endedWithTLS(result) { return }
    if result == 0 {
      reportPeerClosed()
    } else if result != -Int(EAGAIN) {
      fail(.system(SystemError("recv", Int32(-result))))
    }
  }

  private var peerClosedReported = false

  func reportPeerClosed() {
    peerDone = true
    guard !peerClosedReported else { return }
    peerClosedReported = true
    handler?.peerClosed()
  }

  /// Offers input to the handler: straight from the scratch memory unless older bytes wait.
  func deliver(appended bytes: UnsafeRawBufferPointer) {
    guard let handler else { return }
    reading = true
    if input.isEmpty {
      let consumed = handler.received(bytes)
      if consumed < bytes.count, !isClosed { input.append(bytes.slice(consumed..<bytes.count)) }
    } else {
      input.append(bytes)
      let consumed = handler.received(input.readable)
      input.consume(consumed)
    }
    reading = false
    if input.isEmpty, input.hasMemory { input.release() }
  }

  // MARK: Writing

  private func flush() {
    guard let handler else { return }
    if tls != nil { return flushSealed() }
    handler.willFlush()
    while let start = output.readable.baseAddress, !output.isEmpty {
      guard let sent = send(start, output.count) else { break }
      output.consume(sent)
    }
    if !isClosed { finishFlush(handler) }
  }

  /// Sends once. Nil when the kernel takes nothing now, or the socket broke and is closed.
  @inline(__always)
  func send(_ start: UnsafeRawPointer, _ count: Int) -> Int? {
    guard writable else { return nil }
    let sent = loop.system.send(descriptor, start, count)
    if sent < 0 {
      if sent == -Int(EAGAIN) { writable = false } else { fail(.system(SystemError("send", Int32(-sent)))) }
      return nil
    }
    lastProgress = loop.now
    // Fewer than offered: the socket buffer is full, and epoll tells when it has room.
    if sent < count { writable = false }
    return sent
  }

  /// Tells how sending went.
  func finishFlush(_ handler: any StreamSocketHandler) {
    if output.isEmpty {
      loop.buffers.reclaim(&output)
      if wasFull { becomeDrained() }
      // Being drained may have closed it.
      if !isClosed { handler.flushed() }
      return
    }
    if wasFull, output.count < Self.lowWatermark { becomeDrained() }
    if !isClosed { handler.stalled() }
  }

  private func becomeDrained() {
    wasFull = false
    handler?.drained()
  }

  func fail(_ error: SocketFailure) {
    guard !isClosed else { return }
    let handler = handler
    if let tls { tell(error, tls) }
    close()
    handler?.failed(error)
  }
}
