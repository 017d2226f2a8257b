// The server of one loop: its share of the listening sockets, its connections, and their drain.

internal import Base
package import EventLoop
internal import HTTP
internal import Glibc
package import Synchronization

/// How busy each loop is, so that an accepted socket goes to the one with the least to do. Shared by all loops.
package final class LoopLoads: Sendable {
  private final class Load: Sendable {
    let openRequests = Atomic<Int>(0)
    let connections = Atomic<Int>(0)
  }

  private let loads: [Load]

  package init(count: Int) { loads = (0..<count).map { _ in Load() } }

  /// The loop with the fewest open requests, then the fewest connections; `preferred` wins a tie.
  func leastBusy(preferred: Int) -> Int {
    var best = preferred
    var bestKey = key(preferred)
    for index in loads.indices where index != preferred {
      let candidate = key(index)
      if candidate.0 < bestKey.0 || (candidate.0 == bestKey.0 && candidate.1 < bestKey.1) {
        best = index
        bestKey = candidate
      }
    }
    return best
  }

  private func key(_ index: Int) -> (Int, Int) {
    (loads[index].openRequests.load(ordering: .relaxed), loads[index].connections.load(ordering: .relaxed))
  }

  func requests(_ index: Int, _ change: Int) { loads[index].openRequests.add(change, ordering: .relaxed) }

  func connections(_ index: Int, _ change: Int) { loads[index].connections.add(change, ordering: .relaxed) }

  /// Connections open on one loop.
  package func connections(of index: Int) -> Int { loads[index].connections.load(ordering: .relaxed) }

  /// Requests open on all loops.
  package var openRequests: Int { loads.reduce(0) { $0 + $1.openRequests.load(ordering: .relaxed) } }

  /// Connections open on all loops.
  package var openConnections: Int { loads.reduce(0) { $0 + $1.connections.load(ordering: .relaxed) } }
}

/// Counts what listeners do; shared by all loops.
package final class ListenerCounters: Sendable {
  package let accepted = Atomic<Int>(0)
  package let refusedByLimit = Atomic<Int>(0)
  package let acceptErrors = Atomic<Int>(0)
  /// Connections of trusted proxies that began with no PROXY header of version 2.
  package let badProxyHeaders = Atomic<Int>(0)
  /// HTTP/2 connections that were cut because all together held too much of their requests.
  package let cutByMemory = Atomic<Int>(0)
  /// New connections are closed at once, whatever their number: the process has no memory for them.
  package let refusesAll = Atomic<Bool>(false)

  package init() {}
}

/// The server side of one loop. Loop-confined.
package final class HTTPServer {
  package let loop: EventLoop
  let application: any ServerApplication
  private(set) var parser: HTTP1HeadParser
  private(set) var limits: ServerLimits
  /// TLS of connections that come from now on; nil for plain text.
  private(set) var security: SocketSecurity?
  private let loads: LoopLoads
  private let counters: ListenerCounters
  private var acceptors: [Acceptor] = []
  private var connections: [ObjectIdentifier: HTTP1ServerConnection] = [:]
  private var multiplexed: [ObjectIdentifier: HTTP2ExchangeConnection] = [:]
  private var peers: [LoopBound<HTTPServer>] = []
  private var mailboxes: [Mailbox] = []
  private var date = DateHeader()
  private var wallSeconds = 0
  private var wallExpires: Nanoseconds = 0
  package private(set) var isDraining = false
  /// It drains, and its connections may come back once: another process serves on its sockets.
  private(set) var isRetiring = false
  /// Connections whose PROXY header is awaited.
  private var preludes: [ObjectIdentifier: ProxyPrelude] = [:]

  package init(
    loop: EventLoop, application: any ServerApplication, limits: ServerLimits, loads: LoopLoads,
    counters: ListenerCounters, security: SocketSecurity? = nil
  ) {
    self.loop = loop
    self.application = application
    self.limits = limits
    self.loads = loads
    self.counters = counters
    self.security = security
    parser = HTTP1HeadParser(limits: limits.http)
  }

  /// Takes new limits, and the TLS of connections to come. A deadline that runs already stays; the next one is set by
  /// them.
  package func adopt(_ limits: ServerLimits, security: SocketSecurity? = nil) {
    self.limits = limits
    self.security = security
    parser = HTTP1HeadParser(limits: limits.http)
  }

  /// Tells which servers share the listening socket, by loop index, so that sockets can be handed over.
  package func share(with peers: [(Mailbox, LoopBound<HTTPServer>)]) {
    mailboxes = peers.map(\.0)
    self.peers = peers.map(\.1)
  }

  /// Accepts from `descriptor`, a listening socket that other loops accept from as well. May be called for several.
  package func listen(on descriptor: Int32) throws(SystemError) {
    acceptors.append(try Acceptor(descriptor, server: self))
  }

  /// A listening socket gave a connection.
  func accepted(_ descriptor: Int32) {
    counters.accepted.add(1, ordering: .relaxed)
    place(descriptor)
  }

  func acceptFailed() { counters.acceptErrors.add(1, ordering: .relaxed) }

  private func place(_ descriptor: Int32) {
    let target = loads.leastBusy(preferred: loop.index)
    loads.connections(target, 1)
    guard target != loop.index, target < peers.count else {
      adopt(descriptor)
      return
    }
    let peer = peers[target]
    mailboxes[target].submit { loop in peer.open(on: loop).adopt(descriptor) }
  }

  /// Serves an accepted socket on this loop.
  private func adopt(_ descriptor: Int32) {
    let takesMore = !isDraining || isRetiring
    let isFull = connectionCount >= limits.connectionsMax || counters.refusesAll.load(ordering: .relaxed)
    guard takesMore, !isFull else {
      if takesMore { counters.refusedByLimit.add(1, ordering: .relaxed) }
      loads.connections(loop.index, -1)
      loop.system.close(descriptor)
      return
    }
    Sockets.disableDelay(descriptor)
    if limits.asksForProxyHeader(descriptor) {
      awaitProxyHeader(descriptor)
    } else {
      serve(descriptor, from: nil)
    }
  }

  private func awaitProxyHeader(_ descriptor: Int32) {
    do throws(SystemError) {
      let prelude = try ProxyPrelude(descriptor, server: self)
      preludes[ObjectIdentifier(prelude)] = prelude
    } catch {
      loads.connections(loop.index, -1)
      loop.system.close(descriptor)
      counters.acceptErrors.add(1, ordering: .relaxed)
    }
  }

  /// A connection has told whom it comes from, and is served from here on.
  func proxyHeaderEnded(_ prelude: ProxyPrelude, _ descriptor: Int32, from peer: SocketAddress?) {
    preludes[ObjectIdentifier(prelude)] = nil
    serve(descriptor, from: peer)
  }

  /// A connection did not tell whom it comes from, and is closed.
  func proxyHeaderFailed(_ prelude: ProxyPrelude) {
    guard preludes.removeValue(forKey: ObjectIdentifier(prelude)) != nil else { return }
    loads.connections(loop.index, -1)
  }

  /// Counts a connection that had no good PROXY header.
  func proxyHeaderRefused(_ fault: ProxyHeaderFault) {
    counters.badProxyHeaders.add(1, ordering: .relaxed)
    application.refusedConnection(fault)
  }

  private func serve(_ descriptor: Int32, from peer: SocketAddress?) {
    do {
      let connection = try HTTP1ServerConnection(descriptor, server: self, from: peer)
      connections[ObjectIdentifier(connection)] = connection
    } catch {
      loads.connections(loop.index, -1)
      counters.acceptErrors.add(1, ordering: .relaxed)
    }
  }

  /// Leaves the listening sockets to others; the caller closes them once all loops have left.
  package func stopListening() {
    for acceptor in acceptors { acceptor.stop() }
    acceptors = []
    // This server is one of them: nothing is handed over any more.
    peers = []
    mailboxes = []
  }

  /// Leaves the listening sockets to another process: nothing is refused, and each connection that comes back with a
  /// request is told with its answer to come no more (`connection: close`, GOAWAY). Follow with ``drain()`` in the end.
  package func retire() {
    isDraining = true
    isRetiring = true
    stopListening()
    for connection in multiplexed.values { connection.retire() }
  }

  /// Stops keeping connections: idle ones close now, others after their response.
  package func drain() {
    isDraining = true
    isRetiring = false
    stopListening()
    for prelude in preludes.values { prelude.close() }
    for connection in connections.values { connection.drain() }
    for connection in multiplexed.values { connection.drain() }
  }

  /// Lets every exchange that is still open say its last words.
  package func announceCut() {
    for connection in connections.values { connection.announceCut() }
    for connection in multiplexed.values { connection.announceCut() }
  }

  /// Cuts what is left after a drain; each exchange ends as failed by shutdown.
  package func cutAll() {
    for connection in connections.values { connection.abort(.failed(.shutdown)) }
    for connection in multiplexed.values { connection.cut(.failed(.shutdown)) }
  }

  /// Connections held now.
  package var connectionCount: Int { connections.count + multiplexed.count + preludes.count }

  func requestBegan() { loads.requests(loop.index, 1) }

  func requestEnded() { loads.requests(loop.index, -1) }

  func connectionClosed(_ connection: HTTP1ServerConnection) {
    guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    loads.connections(loop.index, -1)
  }

  /// A connection turned out to speak HTTP/2; it counts as one as before.
  func connection(_ connection: HTTP1ServerConnection, became other: HTTP2ExchangeConnection) {
    connections[ObjectIdentifier(connection)] = nil
    multiplexed[ObjectIdentifier(other)] = other
  }

  func connectionClosed(_ connection: HTTP2ExchangeConnection) {
    guard multiplexed.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    loads.connections(loop.index, -1)
  }

  /// Appends the `date` field; the clock is read and the text made once a second (RFC 9110 section 6.6.1).
  func appendDate(to output: inout ByteBuffer) {
    if loop.now >= wallExpires {
      let wall = loop.system.wallNanoseconds()
      wallSeconds = Int(wall / second)
      wallExpires = loop.now + second - wall % second
    }
    date.append(unixSeconds: wallSeconds, to: &output)
  }
}
