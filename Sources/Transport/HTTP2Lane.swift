// The HTTP/2 connections of one loop to one worker: which of them takes the next request, and who waits.

internal import Base
internal import EventLoop
internal import HTTP

/// Gathers requests on as few connections as their streams allow, so that one read brings many answers' tokens and one
/// write takes many requests. A further connection is opened when all are full; when as many as may be are full,
/// requests wait, in their order and for a bounded time.
final class HTTP2Lane: TimerHandler {
  private let pool: UpstreamPool
  /// Those that take new streams. The others (the peer is going away) live until their last stream ends.
  private var connections: [HTTP2ClientConnection] = []
  private var waiting: [HTTP2ClientStream] = []
  private let timer = Timer()
  private var isForgotten = false
  /// Streams that the worker allows on a connection, as it said last; a careful guess before it was heard.
  var streamsMax = 100

  init(_ pool: UpstreamPool) { self.pool = pool }

  var loop: EventLoop { pool.loop }

  private var limits: MultiplexedLimits { pool.limits.multiplexed }

  /// Begins `stream`; on a connection on which nothing has come yet when `fresh`.
  func send(_ stream: HTTP2ClientStream, to upstream: Upstream, fresh: Bool) {
    if !waiting.isEmpty || !place(stream, to: upstream, fresh: fresh) { enqueue(stream) }
  }

  /// Runs `stream` on `socket`, whose handshake has agreed on HTTP/2, unless there is room where others run already.
  func take(_ socket: StreamSocket, to upstream: Upstream, _ stream: HTTP2ClientStream) {
    guard !connections.contains(where: { $0.hasRoom && $0.upstream.trusts(as: upstream) }),
      connections.count < limits.connectionsMax,
      let connection = HTTP2ClientConnection(to: upstream, lane: self, pool: pool), connection.open(stream)
    else {
      socket.close()
      return send(stream, to: upstream, fresh: false)
    }
    connections.append(connection)
    connection.adopt(socket)
  }

  private func place(_ stream: HTTP2ClientStream, to upstream: Upstream, fresh: Bool) -> Bool {
    if upstream.security != nil {
      // Certificates were replaced: what was made by the old ones ends with its last request.
      for connection in connections where !connection.upstream.trusts(as: upstream) {
        connection.leaveLane()
      }
    }
    // Opening may find out that a connection is of no more use: then it has left the list.
    while let connection = connections.first(where: { $0.hasRoom && (!fresh || $0.reads == 0) }) {
      if connection.open(stream) { return true }
    }
    guard connections.count < limits.connectionsMax else {
      guard let connection = connections.last(where: \.hasRoom) else { return false }
      return connection.open(stream)
    }
    pool.connectCount += 1
    guard let connection = HTTP2ClientConnection(to: upstream, lane: self, pool: pool) else { return false }
    connections.append(connection)
    guard connection.open(stream) else { return false }
    connection.connect()
    return true
  }

  private func enqueue(_ stream: HTTP2ClientStream) {
    stream.wait(in: self, until: loop.now + limits.waitTimeout)
    guard waiting.count < limits.waitingMax else { return stream.fail(.busy) }
    waiting.append(stream)
    if !timer.isArmed { loop.arm(timer, at: stream.waitsUntil, self) }
  }

  /// A waiting request was given up.
  func leave(_ stream: HTTP2ClientStream) { waiting.removeAll { $0 === stream } }

  /// Streams have become free on `connection`.
  func advance(_ connection: HTTP2ClientConnection) {
    while !waiting.isEmpty, connection.hasRoom {
      let stream = waiting.removeFirst()
      if !connection.open(stream) { stream.fail(.busy) }
    }
  }

  func timerFired(_ timer: Timer) {
    // All wait equally long, so the first to give up is the first.
    let late = waiting.prefix { $0.waitsUntil <= loop.now }
    waiting.removeFirst(late.count)
    for stream in late { stream.fail(.busy) }
    if let next = waiting.first { loop.arm(timer, at: next.waitsUntil, self) }
  }

  // MARK: Connections

  /// `connection` takes no more streams. Those that wait for one get another, or try elsewhere.
  func remove(_ connection: HTTP2ClientConnection) {
    guard let index = connections.firstIndex(where: { $0 === connection }) else { return }
    connections.remove(at: index)
    guard !waiting.isEmpty else { return }
    let orphans = waiting
    waiting = []
    for stream in orphans {
      if isForgotten {
        stream.fail(.busy)
      } else if !place(stream, to: connection.upstream, fresh: false) {
        waiting.append(stream)
      }
    }
  }

  /// A connection has nothing to do.
  func becameIdle(_ connection: HTTP2ClientConnection) {
    if isForgotten { connection.close() } else { pool.expectIdle() }
  }

  /// Number of connections without a request.
  var idleCount: Int { connections.count { $0.isIdle } }

  /// Closes connections that were idle for too long; true when there are others left.
  func closeIdle() -> Bool {
    for connection in connections
    where connection.isIdle && connection.idleSince + limits.idleTimeout <= loop.now {
      connection.close()
    }
    return idleCount > 0
  }

  /// The worker left, or is avoided: who waits goes elsewhere, idle connections close now, the others with their last
  /// request.
  func forget() {
    isForgotten = true
    let left = waiting
    waiting = []
    for stream in left { stream.fail(.busy) }
    for connection in connections {
      if connection.isIdle { connection.close() } else { connection.leaveLane() }
    }
  }
}
