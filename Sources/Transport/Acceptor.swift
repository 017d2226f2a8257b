// One listening socket as one loop sees it: connections are taken from it, and it rests when there is no room for more.

internal import Base
internal import EventLoop
internal import Glibc

/// Accepts from a socket that other loops accept from as well. Loop-confined; the server owns it.
final class Acceptor: EventHandler, TimerHandler {
  private let descriptor: Int32
  private unowned let server: HTTPServer
  private var registration: Registration?
  private let retryTimer = Timer()

  init(_ descriptor: Int32, server: HTTPServer) throws(SystemError) {
    self.descriptor = descriptor
    self.server = server
    registration = try server.loop.registerShared(descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    // Bounded, so that a storm of connects does not starve the connections that are served.
    for _ in 0..<64 {
      let accepted = server.loop.system.accept(descriptor)
      if accepted == -EAGAIN || accepted == -ECONNABORTED { return }
      guard accepted >= 0 else {
        rest()
        return
      }
      server.accepted(accepted)
    }
  }

  /// Out of descriptors or memory: a level-triggered listener would spin, so it rests for 100 ms.
  private func rest() {
    server.acceptFailed()
    leave()
    server.loop.arm(retryTimer, at: server.loop.now + 100 * millisecond, self)
  }

  func timerFired(_ timer: Timer) {
    do {
      registration = try server.loop.registerShared(descriptor, self)
    } catch {
      server.loop.arm(retryTimer, at: server.loop.now + 100 * millisecond, self)
    }
  }

  private func leave() {
    if let registration { server.loop.deregister(registration, stillOpen: descriptor) }
    registration = nil
  }

  /// Accepts nothing any more; the socket stays open for others.
  func stop() {
    leave()
    server.loop.cancel(retryTimer)
  }
}
