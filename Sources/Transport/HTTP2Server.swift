// HTTP/2 with prior knowledge, as a server: its share of a listening socket, its connections, their bounds and end.

package import Base
package import EventLoop
package import HTTP
internal import Glibc
internal import Synchronization

/// Answers requests of HTTP/2 connections. Calls come on the loop's thread.
package protocol HTTP2Application: AnyObject {
  /// A connection was accepted; false closes it at once.
  func acceptsConnection() -> Bool
  /// A request is complete. Answer it through `connection`, now or later.
  func received(_ exchange: HTTP2Exchange, on connection: HTTP2ServerConnection)
}

extension HTTP2Application {
  package func acceptsConnection() -> Bool { true }
}

/// Bounds and deadlines of HTTP/2 server connections, in nanoseconds. Bounds of streams, headers and bodies are those of
/// the session; floods of control frames and rapid resets are cut by libnghttp2's own bounds.
package struct HTTP2ServerLimits: Sendable {
  package var session = HTTP2Limits()
  /// Connections held at once; past it new ones are closed at once and counted.
  package var connectionsMax = 1_024
  /// Until the first request: a peer that says nothing, or no HTTP/2, is gone after it.
  package var firstRequestTimeout: Nanoseconds = 75 * second
  /// Received bodies that all connections hold together. The connection that passes it is cut and counted.
  package var bufferedBytesMax = 64 << 20
  /// Longest time without a byte of an incomplete request's body.
  package var requestGapTimeout: Nanoseconds = 30 * second
  /// Longest time without the peer taking a byte of waiting output, or without its window letting out a byte of an
  /// answer.
  package var writeStallTimeout: Nanoseconds = 60 * second
  /// How long a connection without requests is kept. It ends with GOAWAY, after which clients come back by themselves.
  package var idleTimeout: Nanoseconds = 600 * second

  /// The defaults.
  package init() {}
}

/// The HTTP/2 server of one loop. Loop-confined.
package final class HTTP2Server: EventHandler, TimerHandler {
  package let loop: EventLoop
  let limits: HTTP2ServerLimits
  private let application: any HTTP2Application
  private let counters: ListenerCounters
  private var listener: (descriptor: Int32, registration: Registration)?
  private let retryTimer = Timer()
  private var connections: [ObjectIdentifier: HTTP2ServerConnection] = [:]
  /// Received bodies that the connections hold.
  var bufferedBytes = 0

  package init(
    loop: EventLoop, application: any HTTP2Application, limits: HTTP2ServerLimits = HTTP2ServerLimits(),
    counters: ListenerCounters = ListenerCounters()
  ) {
    self.loop = loop
    self.application = application
    self.limits = limits
    self.counters = counters
  }

  /// Accepts from `descriptor`, a listening socket, which stays the caller's.
  package func listen(on descriptor: Int32) throws(SystemError) {
    listener = (descriptor, try loop.registerShared(descriptor, self))
  }

  package func ready(_ readiness: Readiness) {
    guard let listener else { return }
    // Bounded, so that a storm of connects does not starve the connections that are served.
    for _ in 0..<64 {
      let accepted = loop.system.accept(listener.descriptor)
      if accepted == -EAGAIN || accepted == -ECONNABORTED { return }
      guard accepted >= 0 else { return acceptFailed() }
      counters.accepted.add(1, ordering: .relaxed)
      adopt(accepted)
      // The application may have closed everything.
      if self.listener == nil { return }
    }
  }

  private func adopt(_ descriptor: Int32) {
    guard application.acceptsConnection() else { return loop.system.close(descriptor) }
    guard connections.count < limits.connectionsMax else {
      counters.refusedByLimit.add(1, ordering: .relaxed)
      return loop.system.close(descriptor)
    }
    Sockets.disableDelay(descriptor)
    if let connection = HTTP2ServerConnection(descriptor, server: self, application: application) {
      connections[ObjectIdentifier(connection)] = connection
    } else {
      counters.acceptErrors.add(1, ordering: .relaxed)
    }
  }

  /// Out of descriptors or memory: a level-triggered listener would spin, so it rests for 100 ms.
  private func acceptFailed() {
    counters.acceptErrors.add(1, ordering: .relaxed)
    guard let listener else { return }
    loop.deregister(listener.registration, stillOpen: listener.descriptor)
    loop.arm(retryTimer, at: loop.now + 100 * millisecond, self)
  }

  package func timerFired(_ timer: Timer) {
    guard let descriptor = listener?.descriptor else { return }
    do {
      try listen(on: descriptor)
    } catch {
      loop.arm(retryTimer, at: loop.now + 100 * millisecond, self)
    }
  }

  /// Leaves the listening socket, which the caller closes.
  package func stopListening() {
    guard let listener else { return }
    loop.deregister(listener.registration, stillOpen: listener.descriptor)
    loop.cancel(retryTimer)
    self.listener = nil
  }

  /// Takes no more requests: each connection says GOAWAY and ends with its last answer.
  package func drain() {
    stopListening()
    for connection in connections.values { connection.drain() }
  }

  /// Closes everything at once.
  package func closeAll() {
    stopListening()
    for connection in connections.values { connection.close() }
  }

  /// False, which is counted, when the connections hold too much.
  func hasRoom() -> Bool {
    if bufferedBytes <= limits.bufferedBytesMax { return true }
    counters.cutByMemory.add(1, ordering: .relaxed)
    return false
  }

  /// Connections held now.
  package var connectionCount: Int { connections.count }

  func connectionClosed(_ connection: HTTP2ServerConnection) {
    connections[ObjectIdentifier(connection)] = nil
  }
}
