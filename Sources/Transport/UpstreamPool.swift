// Connections of one loop to workers: kept alive, reused last in first out, closed before the worker closes them.

package import Base
package import EventLoop
package import HTTP

/// A worker's address as the pool knows it. Immutable: a new resolution makes a new object with the same id.
package final class Upstream: Sendable {
  /// Names the worker; connections of one id are interchangeable.
  package let id: UInt64
  /// What to connect to, tried in order.
  package let addresses: [SocketAddress]
  /// The Host field, as bytes.
  package let authority: [UInt8]
  /// What stands before the request path, without a trailing slash; usually empty.
  package let pathPrefix: [UInt8]
  /// For `https`: with whose name its certificate is compared, and whom to trust; nil for plain text.
  package let security: SocketSecurity?
  /// It speaks HTTP/2 by prior knowledge (RFC 9113 section 3.3): many requests share a connection.
  /// An https worker says by ALPN what it speaks, and each loop finds out with its first connection.
  package let isMultiplexed: Bool

  package init(
    id: UInt64, addresses: [SocketAddress], authority: String, pathPrefix: String = "",
    security: SocketSecurity? = nil, isMultiplexed: Bool = false
  ) {
    self.id = id
    self.security = security
    self.isMultiplexed = isMultiplexed
    self.addresses = addresses
    self.authority = Array(authority.utf8)
    self.pathPrefix = Array(pathPrefix.utf8)
  }

  /// True when a connection made for `other` may serve this: by the same trust and certificate, where there is TLS.
  func trusts(as other: Upstream) -> Bool { security?.context === other.security?.context }
}

/// The idle connections of one loop to one worker, the last used on top.
final class UpstreamShelf {
  var connections: [HTTP1ClientConnection] = []
  /// The worker left: what comes back is closed.
  var isForgotten = false

  /// Closes connections that were made by other certificates than `upstream` is to be trusted by.
  func drop(strangersTo upstream: Upstream) {
    let strangers = connections.filter { !$0.upstream.trusts(as: upstream) }
    guard !strangers.isEmpty else { return }
    connections.removeAll { !$0.upstream.trusts(as: upstream) }
    for connection in strangers { connection.close() }
  }
}

/// The pool of one loop. Loop-confined.
package final class UpstreamPool: TimerHandler {
  /// Begins a non-blocking connect and gives its descriptor.
  package typealias Dial = (SocketAddress) throws(SystemError) -> Int32

  package let loop: EventLoop
  private(set) var parser: HTTP1HeadParser
  private(set) var limits: ClientLimits
  let dial: Dial
  /// Where body pieces of one read are put together; empty between reads.
  var gathered = ByteBuffer()
  private var shelves: [UInt64: UpstreamShelf] = [:]
  private var lanes: [UInt64: HTTP2Lane] = [:]
  private let sweep = Timer()
  /// Connects begun, for the metrics.
  package internal(set) var connectCount = 0

  /// - Parameter dial: how connects are begun; a test hands in descriptors of its own.
  package init(loop: EventLoop, limits: ClientLimits, dial: @escaping Dial = Sockets.connect) {
    self.loop = loop
    self.limits = limits
    self.dial = dial
    parser = HTTP1HeadParser(limits: limits.http)
  }

  /// Takes new limits. A deadline that runs already stays; the next one is set by them.
  package func adopt(_ limits: ClientLimits) {
    self.limits = limits
    parser = HTTP1HeadParser(limits: limits.http)
  }

  /// Begins a request: `compose` writes its head and body, in HTTP/1.1's form. A kept-alive connection is used unless
  /// `fresh` is asked for.
  ///
  /// The handler hears how it went, never from inside this call. Returns what to cancel or pause it by.
  package func send(
    to upstream: Upstream, method: HTTP.Method, fresh: Bool = false, handler: any ClientExchangeHandler,
    _ compose: (inout ByteBuffer) -> Void
  ) -> UpstreamExchange {
    if upstream.isMultiplexed || (upstream.security != nil && lanes[upstream.id] != nil) {
      let request = HTTP2ClientStream(method, isRetry: fresh, handler)
      compose(&request.stream.output)
      lane(for: upstream.id).send(request, to: upstream, fresh: fresh)
      return .http2(request)
    }
    let shelf = shelf(for: upstream.id)
    if upstream.security != nil { shelf.drop(strangersTo: upstream) }
    if !fresh, let connection = shelf.connections.popLast() {
      connection.begin(method, handler, compose)
      return .http1(connection)
    }
    connectCount += 1
    let connection = HTTP1ClientConnection(to: upstream, pool: self, shelf: shelf)
    connection.isRetry = fresh
    connection.begin(method, handler, compose)
    return .http1(connection)
  }

  /// The worker at the other end of `socket` chose HTTP/2: `request`, for which it was made, and all later ones share it.
  func multiplex(_ socket: StreamSocket, to upstream: Upstream, _ request: HTTP2ClientStream) {
    lane(for: upstream.id).take(socket, to: upstream, request)
  }

  /// The worker speaks HTTP/2 no more: it is asked again.
  func stopMultiplexing(_ upstream: Upstream) { lanes.removeValue(forKey: upstream.id)?.forget() }

  private func lane(for upstream: UInt64) -> HTTP2Lane {
    if let lane = lanes[upstream] { return lane }
    let lane = HTTP2Lane(self)
    lanes[upstream] = lane
    return lane
  }

  private func shelf(for upstream: UInt64) -> UpstreamShelf {
    if let shelf = shelves[upstream] { return shelf }
    let shelf = UpstreamShelf()
    shelves[upstream] = shelf
    return shelf
  }

  /// Closes the idle connections to a worker that left.
  package func forget(_ upstream: UInt64) {
    lanes.removeValue(forKey: upstream)?.forget()
    guard let shelf = shelves.removeValue(forKey: upstream) else { return }
    let connections = shelf.connections
    shelf.isForgotten = true
    shelf.connections = []
    for connection in connections { connection.close() }
  }

  /// Closes every idle connection.
  package func closeIdle() {
    for upstream in Set(shelves.keys).union(lanes.keys) { forget(upstream) }
    loop.cancel(sweep)
  }

  /// Number of idle connections, for the metrics.
  package var idleCount: Int {
    shelves.values.reduce(0) { $0 + $1.connections.count } + lanes.values.reduce(0) { $0 + $1.idleCount }
  }

  func keep(_ connection: HTTP1ClientConnection) {
    guard !connection.shelf.isForgotten, connection.shelf.connections.count < limits.idleMax else {
      connection.close()
      return
    }
    connection.shelf.connections.append(connection)
    expectIdle()
  }

  /// Some connection has nothing to do: it is looked at each second how long.
  func expectIdle() {
    if !sweep.isArmed { loop.arm(sweep, at: loop.now + second, self) }
  }

  /// An idle connection was closed by the worker.
  func lost(_ connection: HTTP1ClientConnection) {
    let shelf = connection.shelf
    guard let index = shelf.connections.lastIndex(where: { $0 === connection }) else { return }
    shelf.connections.remove(at: index)
  }

  package func timerFired(_ timer: Timer) {
    var any = false
    for shelf in shelves.values {
      // The oldest lie at the front: the last in is the first out.
      let expired = shelf.connections.prefix { $0.idleSince + limits.idleTimeout <= loop.now }
      shelf.connections.removeFirst(expired.count)
      for connection in expired { connection.close() }
      if !shelf.connections.isEmpty { any = true }
    }
    for lane in lanes.values where lane.closeIdle() { any = true }
    if any { loop.arm(sweep, at: loop.now + second, self) }
  }
}
