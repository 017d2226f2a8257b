// etcd as a source: everything is read once, then followed by a watch, and read again when the watch cannot go on.

internal import Base
internal import EventLoop
internal import JSON

/// Follows the records of an etcd cluster. Loop-confined.
///
///     reading ──▶ watching ──▶ resting ──▶ reading        (a failure leads to a rest, from reading too)
///                    └────────────────────────▲           (compacted: read again at once)
final class EtcdSource: DiscoverySource, TimerHandler, TickHandler {
  /// Keys of one page.
  private static let pageSize = 512
  /// Between two questions that show whether the member still answers: a watch alone may be silent for ever.
  private static let heartbeat = 5 * second
  /// A watch whose connection was dropped on the way is silent as any other: after this long it is begun anew from the last
  /// change that it told of.
  private static let watchTime = 60 * second
  /// Within which a member says that it watches.
  private static let answerTime = 8 * second
  /// Instances and cards in one range; what else lies between the two is passed over.
  private static let first = RecordTable.instances
  private static let end = "v1/mdc0"

  let kind = WorkerSource.etcd
  private let loop: EventLoop
  private let client: EtcdClient
  private let timer = Timer()
  private weak var sink: (any DiscoverySink)?
  private var table = RecordTable()
  private var backoff = APIBackoff()
  /// Answers to an attempt that was given up are not heard.
  private var attempt = 0
  private var isWatching = false
  private var watchBegan: Nanoseconds = 0
  /// The watch has said something.
  private var isAnswered = false
  /// Of the last change that is in ``table``.
  private var revision = 0
  private var isTelling = false
  private var isClosed = false
  private var hasCompacted = false

  init(_ client: EtcdClient, on loop: EventLoop) {
    self.client = client
    self.loop = loop
  }

  func start(_ sink: any DiscoverySink) {
    self.sink = sink
    read()
  }

  func close() {
    isClosed = true
    attempt += 1
    loop.cancel(timer)
    client.close()
  }

  func timerFired(_ timer: Timer) {
    guard isWatching else { return read() }
    let age = loop.now - watchBegan
    if !isAnswered, age >= Self.answerTime {
      failed(EtcdFailure(reason: "its watch is not answered"))
    } else if age >= Self.watchTime {
      attempt += 1
      client.abandon()
      watch(after: revision, attempt)
    } else {
      ask()
    }
  }

  // MARK: Reading

  private func read() {
    attempt += 1
    isWatching = false
    readPage(from: Self.first, revision: nil, RecordTable(), attempt)
  }

  private func readPage(from key: String, revision: Int?, _ read: RecordTable, _ attempt: Int) {
    let body = EtcdRequest.range(from: key, end: Self.end, limit: Self.pageSize, revision: revision)
    client.call("/v3/kv/range", body) { [weak self] result in
      guard let self, attempt == self.attempt else { return }
      switch result {
      case .failure(let failure): failed(failure)
      case .success(let answer):
        guard let revision = revision ?? EtcdAnswer.revision(answer) else {
          return failed(EtcdFailure(reason: "its answer has no revision"))
        }
        var read = read
        var last: String?
        for pair in (answer["kvs"]?.array ?? []).compactMap(EtcdAnswer.pair) {
          read.put(pair.key, pair.value)
          last = pair.key
        }
        if answer["more"]?.bool == true, let last {
          readPage(from: last + "\0", revision: revision, read, attempt)
        } else {
          table = read
          watch(after: revision, attempt)
        }
      }
    }
  }

  // MARK: Watching

  private func watch(after revision: Int, _ attempt: Int) {
    isWatching = true
    isAnswered = false
    watchBegan = loop.now
    self.revision = revision
    tell()
    loop.arm(timer, at: loop.now + Self.heartbeat, self)
    client.watch(
      EtcdRequest.watch(from: Self.first, end: Self.end, revision: revision + 1),
      lines: { [weak self] line in self?.received(line, attempt) },
      { [weak self] failure in
        guard let self, attempt == self.attempt else { return }
        failed(failure)
      })
  }

  private func received(_ line: UnsafeRawBufferPointer, _ attempt: Int) {
    guard attempt == self.attempt, !line.isEmpty else { return }
    guard let message = EtcdAnswer.watchMessage(line) else {
      return failed(EtcdFailure(reason: "its watch said what cannot be read"))
    }
    isAnswered = true
    revision = max(revision, message.revision)
    for change in message.changes {
      switch change {
      case .put(let pair): table.put(pair.key, pair.value)
      case .deleted(let key): table.remove(key)
      }
    }
    if !message.changes.isEmpty {
      isSteady()
      tell()
    }
    if message.isCanceled || message.isCompacted {
      failed(
        EtcdFailure(
          reason: message.reason ?? "it canceled the watch", isCompacted: message.isCompacted))
    }
  }

  /// It does what it is for; what failed before is forgotten.
  private func isSteady() {
    backoff.reset()
    hasCompacted = false
  }

  /// Asks the member for a sign of life.
  private func ask() {
    let attempt = attempt
    client.call("/v3/kv/range", EtcdRequest.count(from: Self.first, end: Self.end)) { [weak self] result in
      guard let self, attempt == self.attempt else { return }
      switch result {
      case .success:
        isSteady()
        loop.arm(timer, at: loop.now + Self.heartbeat, self)
      case .failure(let failure): failed(failure)
      }
    }
  }

  private func failed(_ failure: EtcdFailure) {
    let name = client.serverName
    attempt += 1
    isWatching = false
    client.abandon()
    // What was read was too old by the time it was watched: no outage, unless it happens again before a watch works.
    if failure.isCompacted, !hasCompacted {
      hasCompacted = true
      return read()
    }
    client.rotate()
    sink?.sourceFailed("\(name): \(failure.reason)")
    loop.arm(timer, at: loop.now + backoff.next(&loop.random), self)
  }

  // MARK: Telling

  /// Workers come in groups: what one wake-up brought is told once.
  private func tell() {
    guard !isTelling else { return }
    isTelling = true
    loop.atEndOfTick(self)
  }

  func endOfTick() {
    isTelling = false
    // A source that is lost meanwhile must not be told as one that answers.
    guard !isClosed, isWatching else { return }
    // While etcd answers, its leases tell who lives.
    sink?.found(table.scan(touched: .max))
  }
}
