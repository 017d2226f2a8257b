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
  /// HTTP/2 connections that were cut because all together held too much of their requests.
  package let cutByMemory = Atomic<Int>(0)
  /// New connections are closed at once, whatever their number: the process has no memory for them.
  package let refusesAll = Atomic<Bool>(false)

  package init() {}
}

/// The server side of one loop. Loop-confined.
package final class HTTPServer: EventHandler, TimerHandler {
  package let loop: EventLoop
  let application: any ServerApplication
  private(set) var parser: HTTP1HeadParser
  private(set) var limits: ServerLimits
  /// TLS of connections that come from now on; nil for plain text.
  private(set) var security: SocketSecurity?
  private let loads: LoopLoads
  private let counters: ListenerCounters
  private var listener: (descriptor: Int32, registration: Registration)?
  private var connections: [ObjectIdentifier: HTTP1ServerConnection] = [:]
  private var multiplexed: [ObjectIdentifier: HTTP2ExchangeConnection] = [:]
  private var peers: [LoopBound<HTTPServer>] = []
  private var mailboxes: [Mailbox] = []
  private let retryTimer = Timer()
  private var date = DateHeader()
  private var wallSeconds = 0
  private var wallExpires: Nanoseconds = 0
  package private(set) var isDraining = false

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

  /// Accepts from `descriptor`, a listening socket that other loops accept from as well.
  package func listen(on descriptor: Int32) throws(SystemError) {
    let registration = try loop.registerShared(descriptor, self)
    listener = (descriptor, registration)
  }

  package func ready(_ readiness: Readiness) {
    guard let listener else { return }
    // Bounded, so that a storm of connects does not starve the connections that are served.
    for _ in 0..<64 {
      let accepted = loop.system.accept(listener.descriptor)
      if accepted == -EAGAIN || accepted == -ECONNABORTED { return }
      guard accepted >= 0 else {
        acceptFailed(-accepted)
        return
      }
      counters.accepted.add(1, ordering: .relaxed)
      place(accepted)
    }
  }

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
    guard !isDraining, connectionCount < limits.connectionsMax,
      !counters.refusesAll.load(ordering: .relaxed)
    else {
      if !isDraining { counters.refusedByLimit.add(1, ordering: .relaxed) }
      loads.connections(loop.index, -1)
      loop.system.close(descriptor)
      return
    }
    Sockets.disableDelay(descriptor)
    do {
      let connection = try HTTP1ServerConnection(descriptor, server: self)
      connections[ObjectIdentifier(connection)] = connection
    } catch {
      loads.connections(loop.index, -1)
      counters.acceptErrors.add(1, ordering: .relaxed)
    }
  }

  /// Out of descriptors or memory: a level-triggered listener would spin, so it rests for 100 ms.
  private func acceptFailed(_ code: Int32) {
    counters.acceptErrors.add(1, ordering: .relaxed)
    guard let listener else { return }
    loop.deregister(listener.registration, stillOpen: listener.descriptor)
    loop.arm(retryTimer, at: loop.now + 100 * millisecond, self)
  }

  package func timerFired(_ timer: Timer) {
    guard let descriptor = listener?.descriptor, !isDraining else { return }
    do {
      try listen(on: descriptor)
    } catch {
      loop.arm(retryTimer, at: loop.now + 100 * millisecond, self)
    }
  }

  /// Leaves the listening socket to others; the caller closes it once all loops have left.
  package func stopListening() {
    guard let listener else { return }
    loop.deregister(listener.registration, stillOpen: listener.descriptor)
    loop.cancel(retryTimer)
    self.listener = nil
    // This server is one of them: nothing is handed over any more.
    peers = []
    mailboxes = []
  }

  /// Stops keeping connections: idle ones close now, others after their response.
  package func drain() {
    isDraining = true
    stopListening()
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
  package var connectionCount: Int { connections.count + multiplexed.count }

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
