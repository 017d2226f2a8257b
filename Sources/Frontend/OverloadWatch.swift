// Overload: what is refused when the process comes near its bounds, in two steps, and what is said of it.

internal import Base
internal import EventLoop
internal import Logging
internal import Synchronization
internal import Telemetry
internal import Transport

/// How near the process is to its memory's bound.
enum Pressure: Int, Sendable, Comparable {
  case none = 0
  /// New requests are refused, those that run go on.
  case soft = 1
  /// New connections are closed at once too.
  case hard = 2

  static func < (a: Pressure, b: Pressure) -> Bool { a.rawValue < b.rawValue }
}

/// The two steps as shares of the bound, after Envoy's overload manager: in at 95 % and 98 %, and out only some way below,
/// so that a process at a step does not go to and fro.
struct MemoryPressure {
  /// Bytes that the process may have resident.
  let limit: Int
  private(set) var pressure = Pressure.none

  init(limit: Int) { self.limit = max(1, limit) }

  /// Takes a reading in bytes.
  mutating func observe(_ resident: Int) {
    let share = Double(resident) / Double(limit)
    let reached: Pressure = share >= 0.98 ? .hard : share >= 0.95 ? .soft : .none
    let kept: Pressure = share >= 0.95 ? .hard : share >= 0.90 ? .soft : .none
    pressure = max(reached, min(pressure, kept))
  }
}

/// Why a request is shed.
enum ShedReason: String, CaseIterable {
  case requests
  case memory
}

/// What the loops shed, and whether they are to. Shared by all of them.
final class Shedding: Sendable {
  private let level = Atomic<Int>(0)
  let shedByRequests = Atomic<Int>(0)
  let shedByMemory = Atomic<Int>(0)

  var pressure: Pressure {
    get { Pressure(rawValue: level.load(ordering: .relaxed)) ?? .none }
    set { level.store(newValue.rawValue, ordering: .relaxed) }
  }

  func count(_ reason: ShedReason) {
    switch reason {
    case .requests: shedByRequests.add(1, ordering: .relaxed)
    case .memory: shedByMemory.add(1, ordering: .relaxed)
    }
  }

  func register(on registry: MetricRegistry) {
    registry.observe(.overloadLevel, .gauge) { Double(self.pressure.rawValue) }
    registry.collect(.shedRequests, .counter) { samples in
      let counts = [
        (ShedReason.requests, self.shedByRequests.load(ordering: .relaxed)),
        (ShedReason.memory, self.shedByMemory.load(ordering: .relaxed)),
      ]
      for (reason, count) in counts {
        samples.add(Double(count), labels: [("reason", reason.rawValue)])
      }
    }
  }
}

extension FrontendLoop {
  /// Why a new request must be refused; nil for almost every request.
  var shedReason: ShedReason? {
    if openRequests > configuration.requestsMax { return .requests }
    return shared.shedding.pressure >= .soft ? .memory : nil
  }

  /// Connections are near their bound: those that have been answered are not kept.
  var isShortOfConnections: Bool {
    shared.loads.connections(of: loop.index) >= configuration.server.connectionsMax * 19 / 20
  }
}

/// Looks at the process's memory twice a second, and says once a second at most what was refused. On one loop.
final class OverloadWatch: TimerHandler {
  static let interval = 500 * millisecond
  /// How often free pages are given back while memory is short.
  static let returnInterval = 2 * second

  /// What was refused so far, in all.
  struct Refused: Equatable {
    var requestsByCount = 0
    var requestsByMemory = 0
    var connections = 0
  }

  private let loop: EventLoop
  private let shared: FrontendShared
  private let logger: Logger
  private let resident: () -> Int?
  /// Gives pages that are free back to the system, away from the loop, which takes milliseconds.
  private let returnFree: () -> Void
  private var returnsAt: Nanoseconds = 0
  private let timer = Timer()
  private var memory: MemoryPressure?
  private var said = Refused()
  private var saidAt: Nanoseconds = 0

  /// - Parameters:
  ///   - resident: the process's memory in bytes; nil when it cannot be told.
  ///   - returnFree: gives free pages back soon; nil for a thread of the pool that does.
  init(
    _ loop: EventLoop, shared: FrontendShared, logger: Logger,
    resident: @escaping () -> Int? = { ProcessReadings.residentBytes },
    returnFree: (() -> Void)? = nil
  ) {
    self.loop = loop
    self.shared = shared
    self.logger = logger
    self.resident = resident
    self.returnFree = returnFree ?? { _ = shared.pool.submit(FreePages(), from: loop.mailbox) }
  }

  /// Looks again and again, until the loop ends.
  func begin() { loop.arm(timer, at: loop.now + Self.interval, self) }

  func timerFired(_ timer: Timer) {
    look()
    begin()
  }

  private func look() {
    readMemory(shared.memoryMax)
    let refused = Refused(
      requestsByCount: shared.shedding.shedByRequests.load(ordering: .relaxed),
      requestsByMemory: shared.shedding.shedByMemory.load(ordering: .relaxed),
      connections: shared.listenerCounters.refusedByLimit.load(ordering: .relaxed))
    guard refused != said, loop.now >= saidAt + second || saidAt == 0 else { return }
    logger.warning(
      "overloaded: some were refused",
      metadata: [
        "requests_over_limit": "\(refused.requestsByCount - said.requestsByCount)",
        "requests_for_memory": "\(refused.requestsByMemory - said.requestsByMemory)",
        "connections": "\(refused.connections - said.connections)",
        "open_requests": "\(shared.loads.openRequests)",
        "open_connections": "\(shared.loads.openConnections)",
      ])
    said = refused
    saidAt = loop.now
  }

  private func readMemory(_ limit: Int?) {
    guard let limit, let bytes = resident() else {
      memory = nil
      return show(.none)
    }
    var watched = memory ?? MemoryPressure(limit: limit)
    if watched.limit != limit { watched = MemoryPressure(limit: limit) }
    watched.observe(bytes)
    memory = watched
    show(watched.pressure, bytes: bytes, limit: limit)
    if watched.pressure >= .soft { returnFreePages() }
  }

  /// What requests have freed stays resident in the allocator's arenas: without this, pressure would not end when they do.
  private func returnFreePages() {
    guard loop.now >= returnsAt else { return }
    returnsAt = loop.now + Self.returnInterval
    returnFree()
  }

  private func show(_ pressure: Pressure, bytes: Int = 0, limit: Int = 0) {
    let old = shared.shedding.pressure
    guard pressure != old else { return }
    shared.shedding.pressure = pressure
    shared.listenerCounters.refusesAll.store(pressure == .hard, ordering: .relaxed)
    logger.log(
      level: pressure == .none ? .info : .warning, "memory pressure",
      metadata: [
        "step": "\(pressure.rawValue)", "resident_mib": "\(bytes >> 20)", "limit_mib": "\(limit >> 20)",
      ])
  }
}

/// Gives free pages back to the system.
private final class FreePages: PooledWork {
  func run() { Machine.returnFreeMemory() }

  func returned(to loop: EventLoop) {}
}
