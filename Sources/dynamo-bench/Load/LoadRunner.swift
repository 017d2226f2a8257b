// Runs a load: warm-up, then the measured phase, in closed or open loop, or streams held open.

import Base
import EventLoop
import Glibc

/// Drives the callers of one run on one loop.
final class LoadRunner: TimerHandler {
  private static let sweepInterval = 250 * millisecond
  /// How long a caller waits after a failure, so that a dead server is not hammered.
  private static let pauseAfterFailure = 10 * millisecond
  private static let sweepTag: UInt8 = 0
  private static let arrivalTag: UInt8 = 1

  let options: LoadOptions
  let loop: EventLoop
  let writer: RequestWriter
  private(set) var measurements = Measurements()
  private var connections: [LoadConnection] = []
  private let sweeper = Timer(tag: sweepTag)
  private let arrivals = Timer(tag: arrivalTag)

  // The phase under way.
  private var remaining: Int?
  private var deadline: Nanoseconds = .max
  private var active = 0
  private var streamsOpened = 0

  // Open loop.
  private var idle: [LoadConnection] = []
  private var nextArrival: Nanoseconds = 0
  private var waiting: [Nanoseconds] = []
  private var waitingHead = 0

  init(_ options: LoadOptions, loop: EventLoop) throws(LoadError) {
    self.options = options
    self.loop = loop
    writer = RequestWriter(options, seed: options.seed)
    var addresses: [(SocketAddress, String)] = []
    for target in options.targets {
      guard let address = SocketAddress.resolve(host: target.host, port: target.port).first else {
        throw LoadError.unresolved(target.host)
      }
      addresses.append((address, target.authority))
    }
    guard !addresses.isEmpty else { throw LoadError.unresolved("") }
    for index in 0..<(options.openStreams ?? options.workload.connections) {
      let (address, authority) = addresses[index % addresses.count]
      connections.append(LoadConnection(self, address: address, authority: authority))
    }
  }

  /// Runs warm-up and measured phase and returns what was seen.
  func run() -> LoadReport {
    loop.arm(sweeper, at: loop.now + Self.sweepInterval, self)
    defer {
      loop.cancel(sweeper)
      for connection in connections { connection.disconnect() }
      connections = []
      idle = []
    }
    if options.openStreams != nil { return runOpenStreams() }
    if options.warmUpRequests > 0 {
      runPhase(requests: options.warmUpRequests, duration: .max)
      let failed = measurements
      // A failure in the warm-up would otherwise go unseen.
      measurements = Measurements()
      if failed.failed > 0 { return LoadReport(options, failed, elapsed: 0, server: nil, generator: 0) }
    }
    let meter = options.process.map { ServerMeter($0) }
    let ownBefore = Self.ownCPU
    let start = loop.system.monotonicNanoseconds()
    runPhase(requests: options.requests, duration: options.requests == nil ? options.duration : .max)
    let elapsed = loop.system.monotonicNanoseconds() - start
    return LoadReport(
      options, measurements, elapsed: elapsed, server: meter?.read(), generator: Self.ownCPU - ownBefore)
  }

  // MARK: Phases

  private func runPhase(requests: Int?, duration: Nanoseconds) {
    remaining = requests
    let now = loop.system.monotonicNanoseconds()
    deadline = duration == .max ? .max : now + duration
    if options.rate != nil {
      idle = connections
      nextArrival = now
      loop.arm(arrivals, at: now, self)
    } else {
      let gap = options.ramp / UInt64(max(1, connections.count))
      for (index, connection) in connections.enumerated() {
        if gap == 0 { isFree(connection) } else { connection.startLater(at: now + UInt64(index) * gap) }
      }
    }
    // Callers that have not started yet keep the phase going only until its deadline.
    while active > 0 || mayStart { loop.turn(patience: 100) }
    loop.cancel(arrivals)
  }

  private var mayStart: Bool {
    if let remaining { return remaining > 0 }
    return loop.now < deadline
  }

  /// `connection` can take a request.
  func isFree(_ connection: LoadConnection) {
    guard !connection.isBusy else { return }
    if options.rate == nil {
      if mayStart { start(connection) }
    } else if waitingHead < waiting.count {
      let due = waiting[waitingHead]
      waitingHead += 1
      if waitingHead == waiting.count {
        waiting.removeAll(keepingCapacity: true)
        waitingHead = 0
      }
      measurements.waited += 1
      connection.start(due: due)
    } else {
      idle.append(connection)
    }
  }

  private func start(_ connection: LoadConnection) {
    if let remaining { self.remaining = remaining - 1 }
    active += 1
    connection.start(due: nil)
  }

  /// The answer of `connection` is over.
  func finished(_ connection: LoadConnection, failed: Bool) {
    active -= 1
    if failed || options.openStreams != nil {
      connection.startLater(at: loop.now + Self.pauseAfterFailure)
    } else {
      isFree(connection)
    }
  }

  func timerFired(_ timer: Timer) {
    if timer.tag == Self.arrivalTag {
      arrive()
    } else {
      for connection in connections { connection.sweep(loop.now, options.timeout) }
      loop.arm(sweeper, at: loop.now + Self.sweepInterval, self)
    }
  }

  // MARK: Open loop

  private func arrive() {
    guard let rate = options.rate else { return }
    while mayStart, nextArrival <= loop.now {
      if let connection = idle.popLast() {
        // Up to a millisecond late by this loop's timers, which is no fault of the server.
        start(connection)
      } else {
        // Counted as active at once: a request that is late is still a request, timed from when it was due.
        if let remaining { self.remaining = remaining - 1 }
        active += 1
        waiting.append(nextArrival)
      }
      let uniform = Double(loop.random.next() >> 11) / 9_007_199_254_740_992
      nextArrival += UInt64(-log(1 - uniform) / rate * 1e9)
    }
    if mayStart { loop.arm(arrivals, at: nextArrival, self) }
  }

  // MARK: Streams held open

  /// A stream's first token came.
  func firstTokenCame() { streamsOpened += 1 }

  private func runOpenStreams() -> LoadReport {
    let before = options.process.map { ProcessTree(root: $0).memory }
    remaining = connections.count
    let start = loop.system.monotonicNanoseconds()
    for connection in connections { isFree(connection) }
    while streamsOpened + measurements.failed < connections.count, loop.now < start + options.timeout {
      loop.turn(patience: 100)
    }
    let held = loop.now
    while loop.now < held + options.hold { loop.turn(patience: 100) }
    var report = LoadReport(
      options, measurements, elapsed: loop.now - start, server: nil, generator: 0)
    report.openStreams = streamsOpened
    report.memoryBefore = before
    report.memoryOpen = options.process.map { ProcessTree(root: $0).memory }
    return report
  }

  private static var ownCPU: Nanoseconds {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * second + UInt64(time.tv_nsec)
  }
}

/// Why a run cannot start.
enum LoadError: Error, CustomStringConvertible {
  case unresolved(String)

  var description: String {
    switch self {
    case .unresolved(let host): "no address for \(quoted(host))"
    }
  }
}
