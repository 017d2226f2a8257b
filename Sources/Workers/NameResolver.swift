// Resolves names again and again, on a thread of its own: a slow name server must not hold up probes and exclusions.

internal import Base
internal import EventLoop

/// Runs getaddrinfo for the control loop. The thread is started with the first name; numeric addresses need none.
final class NameResolver {
  typealias Resolve = @Sendable (_ host: String, _ port: UInt16) -> [SocketAddress]

  private let loop: EventLoop
  private let resolve: Resolve
  private var worker: Mailbox?
  private var waiting: [Int: ([SocketAddress]) -> Void] = [:]
  private var count = 0

  init(loop: EventLoop, resolve: @escaping Resolve) {
    self.loop = loop
    self.resolve = resolve
  }

  /// Calls `report` on the control loop, never from inside. No address when the name is unknown or no thread is to be had.
  func addresses(of url: WorkerURL, _ report: @escaping ([SocketAddress]) -> Void) {
    count += 1
    let ticket = count
    waiting[ticket] = report
    let mailbox = loop.mailbox
    let bound = LoopBound(self, of: loop)
    let host = url.host
    let port = url.port
    let resolve = resolve
    guard !url.isNumeric, let worker = thread() else {
      let addresses = url.isNumeric ? resolve(host, port) : []
      mailbox.submit { bound.open(on: $0).answered(ticket, addresses) }
      return
    }
    worker.submit { _ in
      let addresses = resolve(host, port)
      mailbox.submit { bound.open(on: $0).answered(ticket, addresses) }
    }
  }

  /// Ends the thread once it has no call under way; nobody waits for it.
  func close() {
    waiting = [:]
    worker?.submit { $0.stop() }
    worker = nil
  }

  private func answered(_ ticket: Int, _ addresses: [SocketAddress]) {
    waiting.removeValue(forKey: ticket)?(addresses)
  }

  private func thread() -> Mailbox? {
    if let worker { return worker }
    guard let other = try? EventLoop(index: 0, seed: 0) else { return nil }
    let handed = HandedLoop(loop: other)
    guard (try? Thread(name: "resolver", { handed.loop.run() })) != nil else { return nil }
    worker = other.mailbox
    return worker
  }
}

/// Takes a loop to the thread that runs it. Unchecked: nothing touches the loop between the hand-over and `run`.
struct HandedLoop: @unchecked Sendable {
  let loop: EventLoop
}

/// A name of a configured URL with its addresses, resolved again when it is time or when a connect failed.
final class ResolvedName: TimerHandler {
  /// Until the name has an address, and at least between two resolutions.
  private static let eagerInterval = second

  let url: WorkerURL
  private let loop: EventLoop
  private let resolver: NameResolver
  private let interval: Nanoseconds
  private let changed: (ResolvedName) -> Void
  private let timer = Timer()
  private var isAsking = false
  private var lastAsked: Nanoseconds = 0
  private var isClosed = false
  private(set) var addresses: [SocketAddress] = []
  /// True after an answer without an address, until there is one.
  private(set) var isUnknown = false

  /// `changed` is called when ``addresses`` or ``isUnknown`` are others than before.
  init(
    _ url: WorkerURL, loop: EventLoop, resolver: NameResolver, interval: Nanoseconds,
    changed: @escaping (ResolvedName) -> Void
  ) {
    self.url = url
    self.loop = loop
    self.resolver = resolver
    self.interval = interval
    self.changed = changed
  }

  func start() { ask() }

  func close() {
    isClosed = true
    loop.cancel(timer)
  }

  /// A connect failed: perhaps the name points elsewhere by now.
  func refresh() {
    guard !isAsking, !isClosed, !url.isNumeric else { return }
    loop.arm(timer, at: max(loop.now, lastAsked + Self.eagerInterval), self)
  }

  func timerFired(_ timer: Timer) { ask() }

  private func ask() {
    guard !isAsking, !isClosed else { return }
    isAsking = true
    lastAsked = loop.now
    resolver.addresses(of: url) { [weak self] in self?.answered($0) }
  }

  private func answered(_ found: [SocketAddress]) {
    isAsking = false
    guard !isClosed else { return }
    // Round-robin name servers turn the order with each answer; that is no change.
    let found = found.sorted { $0.description < $1.description }
    let before = (addresses, isUnknown)
    // An outage of the name server does not take workers away: the last answer stands.
    if !found.isEmpty { addresses = found }
    isUnknown = found.isEmpty
    if !url.isNumeric || addresses.isEmpty {
      loop.arm(timer, at: loop.now + (addresses.isEmpty ? Self.eagerInterval : interval), self)
    }
    if before.0 != addresses || before.1 != isUnknown { changed(self) }
  }
}
