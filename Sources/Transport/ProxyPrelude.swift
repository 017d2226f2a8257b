// A connection of a trusted proxy before its first byte of HTTP or TLS: its PROXY header is read, then it is served.

internal import Base
internal import EventLoop
internal import Glibc

/// Holds one accepted socket until its PROXY header is whole. Loop-confined; the server owns it.
final class ProxyPrelude: EventHandler, TimerHandler {
  private let descriptor: Int32
  private unowned let server: HTTPServer
  private var registration: Registration?
  private let timer = Timer()
  private var reader = ProxyHeaderReader()

  init(_ descriptor: Int32, server: HTTPServer) throws(SystemError) {
    self.descriptor = descriptor
    self.server = server
    registration = try server.loop.register(descriptor, self)
    server.loop.arm(timer, at: server.loop.now + server.limits.headTimeout, self)
  }

  func ready(_ readiness: Readiness) {
    guard registration != nil, let room = server.loop.scratch.baseAddress else { return }
    while true {
      let count = server.loop.system.receive(descriptor, room, min(reader.wanted, server.loop.scratch.count))
      if count == -Int(EAGAIN) { return }
      guard count > 0 else {
        // A probe that connects and leaves is nobody's fault.
        close()
        return
      }
      do throws(ProxyHeaderFault) {
        guard let answer = try reader.receive(UnsafeRawBufferPointer(start: room, count: count)) else {
          continue
        }
        finish(answer)
        return
      } catch {
        refuse(error)
        return
      }
    }
  }

  /// The connection is registered anew by whoever serves it, which tells it what has come since.
  private func finish(_ answer: ProxyHeaderReader.Answer) {
    leave(stillOpen: descriptor)
    let client: SocketAddress? = if case .client(let address) = answer { address } else { nil }
    server.proxyHeaderEnded(self, descriptor, from: client)
  }

  func timerFired(_ timer: Timer) { refuse(.incomplete) }

  private func refuse(_ fault: ProxyHeaderFault) {
    server.proxyHeaderRefused(fault)
    close()
  }

  func close() {
    guard registration != nil else { return }
    leave(stillOpen: nil)
    server.loop.system.close(descriptor)
    server.proxyHeaderFailed(self)
  }

  private func leave(stillOpen descriptor: Int32?) {
    if let registration { server.loop.deregister(registration, stillOpen: descriptor) }
    registration = nil
    server.loop.cancel(timer)
  }
}
