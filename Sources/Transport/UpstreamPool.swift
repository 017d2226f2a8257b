// Connections of one loop to workers: kept alive, reused last in first out, closed before the worker closes them.

package import Base
package import EventLoop
package import HTTP

/// A worker's address as the pool knows it. Immutable: a new resolution makes a new value with the same id.
package struct Upstream: Sendable {
  /// Names the worker; connections of one id are interchangeable.
  package let id: UInt64
  /// What to connect to, tried in order.
  package let addresses: [SocketAddress]
  /// The Host field, as bytes.
  package let authority: [UInt8]
  /// What stands before the request path, without a trailing slash; usually empty.
  package let pathPrefix: [UInt8]

  package init(id: UInt64, addresses: [SocketAddress], authority: String, pathPrefix: String = "") {
    self.id = id
    self.addresses = addresses
    self.authority = Array(authority.utf8)
    self.pathPrefix = Array(pathPrefix.utf8)
  }
}

/// The pool of one loop. Loop-confined.
package final class UpstreamPool: TimerHandler {
  package let loop: EventLoop
  let parser: HTTP1HeadParser
  let limits: ClientLimits
  private var idle: [UInt64: [HTTP1ClientConnection]] = [:]
  private let sweep = Timer()
  /// Connects begun, for the metrics.
  package private(set) var connectCount = 0

  /// Begins a non-blocking connect and gives its descriptor.
  package typealias Dial = (SocketAddress) throws(SystemError) -> Int32

  let dial: Dial

  /// - Parameter dial: how connects are begun; a test hands in descriptors of its own.
  package init(loop: EventLoop, limits: ClientLimits, dial: @escaping Dial = Sockets.connect) {
    self.loop = loop
    self.limits = limits
    self.dial = dial
    parser = HTTP1HeadParser(limits: limits.http)
  }

  /// Begins a request: `compose` writes its head and body. A kept-alive connection is used unless `fresh` is asked for.
  ///
  /// The handler hears how it went, never from inside this call. Returns what to cancel or pause it by.
  package func send(
    to upstream: Upstream, method: HTTP.Method, fresh: Bool = false, handler: any ClientExchangeHandler,
    _ compose: (inout ByteBuffer) -> Void
  ) -> HTTP1ClientConnection {
    if !fresh, let connection = idle[upstream.id]?.popLast() {
      connection.begin(method, handler, compose)
      return connection
    }
    connectCount += 1
    let connection = HTTP1ClientConnection(to: upstream, pool: self)
    connection.begin(method, handler, compose)
    return connection
  }

  /// Closes the idle connections to a worker that left.
  package func forget(_ upstream: UInt64) {
    for connection in idle.removeValue(forKey: upstream) ?? [] { connection.close() }
  }

  /// Closes every idle connection.
  package func closeIdle() {
    let all = idle
    idle = [:]
    for connection in all.values.joined() { connection.close() }
    loop.cancel(sweep)
  }

  /// Number of idle connections, for the metrics.
  package var idleCount: Int { idle.values.reduce(0) { $0 + $1.count } }

  func keep(_ connection: HTTP1ClientConnection) {
    guard idle[connection.upstream.id, default: []].count < limits.idleMax else {
      connection.close()
      return
    }
    idle[connection.upstream.id, default: []].append(connection)
    if !sweep.isArmed { loop.arm(sweep, at: loop.now + second, self) }
  }

  /// An idle connection was closed by the worker.
  func lost(_ connection: HTTP1ClientConnection) {
    guard let index = idle[connection.upstream.id]?.lastIndex(where: { $0 === connection }) else { return }
    idle[connection.upstream.id]?.remove(at: index)
  }

  package func timerFired(_ timer: Timer) {
    var any = false
    for (id, connections) in idle {
      // The oldest lie at the front: the last in is the first out.
      let expired = connections.prefix { $0.idleSince + limits.idleTimeout <= loop.now }
      for connection in expired { connection.close() }
      if expired.count == connections.count {
        idle[id] = nil
      } else {
        any = true
        if !expired.isEmpty { idle[id] = Array(connections.dropFirst(expired.count)) }
      }
    }
    if any { loop.arm(sweep, at: loop.now + second, self) }
  }
}
