// Discovery: from the records that a source found to members.

internal import Base
internal import EventLoop
internal import Logging
internal import Telemetry
internal import TLS
internal import Transport

/// What the directory remembers of records beside its members.
struct DirectoryRecords {
  /// Keys of records that are of no use, with the reason; said once while they stay.
  fileprivate var notes: [String: String] = [:]
  /// Dead records that still lie in the store, with the time of their last touch.
  fileprivate var dead: [String: UInt64] = [:]
  /// Why the source could not be read last.
  fileprivate var failure: String?
  /// What the source told last: what was of no use then may be of some once other workers have gone.
  fileprivate var scan: DiscoveryScan?
  fileprivate var servers: [WorkerURL]?
}

extension DirectoryControl: DiscoverySink {
  /// Workers that are known stay: they go when they stop answering.
  func sourceFailed(_ reason: String) {
    let metadata: Logger.Metadata = ["source": "\(recordSource.label)", "error": "\(reason)"]
    if records.failure != reason { logger.warning("discovery cannot be read", metadata: metadata) }
    let isFirst = records.failure == nil
    if isFirst { discoveryBoard.failed() }
    records.failure = reason
    for member in registered {
      guard let before = member.finding else { continue }
      // Nobody can tell any more whether their owners live: from here on they are judged by their ports.
      if isFirst { member.finding?.touched = min(before.touched, loop.system.wallNanoseconds()) }
      doubt(member, before: before)
    }
  }

  private func sourceAnswered() {
    guard records.failure != nil else { return }
    records.failure = nil
    discoveryBoard.recovered()
    logger.info("discovery can be read again", metadata: ["source": "\(recordSource.label)"])
  }

  /// Takes over what changed.
  func found(_ scan: DiscoveryScan) {
    sourceAnswered()
    records.scan = scan
    take(scan)
  }

  /// Looks again at records that were of no use. To be called from time to time: sources tell of changes in their store,
  /// and what stood in a record's way may have changed here.
  func lookAgain() {
    guard records.failure == nil else { return }
    if !records.notes.isEmpty, let scan = records.scan { take(scan) }
    if let servers = records.servers { take(servers) }
  }

  private func take(_ scan: DiscoveryScan) {
    var notes = scan.unusable
    var present: Set<String> = []
    for finding in scan.findings {
      let key = finding.record.identity.instanceKey
      present.insert(key)
      if let note = take(finding, key: key) { notes[key] = note }
    }
    for record in scan.foreign where !isStale(record) {
      notes[record.key] =
        record.transport.map { "its transport '\($0)' is not spoken here" }
        ?? "it was registered by another program"
    }
    for member in registered {
      guard let key = member.finding?.record.identity.instanceKey, !present.contains(key) else { continue }
      remove(member, reason: "it withdrew its record")
    }
    records.dead = records.dead.filter { present.contains($0.key) }
    note(notes)
  }

  /// Says once why registered workers are not used.
  private func note(_ notes: [String: String]) {
    for (key, note) in notes.sorted(by: { $0.key < $1.key }) where records.notes[key] != note {
      logger.info("a registered worker is not used", metadata: ["key": "\(key)", "reason": "\(note)"])
    }
    guard records.notes != notes else { return }
    records.notes = notes
    markDirty()
  }

  /// Takes over servers that have no records; they are asked what they are.
  func found(servers: [WorkerURL]) {
    sourceAnswered()
    records.servers = servers
    take(servers)
  }

  private func take(_ servers: [WorkerURL]) {
    var notes: [String: String] = [:]
    let present = Set(servers)
    for member in served where !present.contains(member.url) {
      remove(member, reason: "its endpoint is gone")
    }
    // A server that was configured as well has a worker already.
    for url in servers where member(url.id) == nil {
      do throws(TLSError) { if url.isSecure { try security.prepare() } } catch {
        notes[url.text] = "TLS to workers: \(error.reason)"
        continue
      }
      let member = member(url, of: url, addresses: [], recordSource)
      if add(member) {
        resolve(member)
      } else {
        notes[url.text] = "there are too many workers"
      }
    }
    note(notes)
  }

  /// What is registered and not used.
  var unusedRecords: UnusedRecords { UnusedRecords(records.notes) }

  /// Dynamo takes a file that was not touched for as long for dead, and deletes it.
  private func isStale(_ record: ForeignRecord) -> Bool {
    if case .fresh = RecordAge(touched: record.touched, now: loop.system.wallNanoseconds(), refused: false) {
      return false
    }
    return true
  }

  /// Adds or renews the worker of a record. Returns why it is of no use, if it is not.
  private func take(_ finding: DiscoveryFinding, key: String) -> String? {
    let identity = finding.record.identity
    if let namespace = configuration.namespace, identity.namespace != namespace {
      return "it is in another namespace"
    }
    if let prefix = configuration.namespacePrefix, !identity.namespace.hasPrefix(prefix) {
      return "it is in another namespace"
    }
    if finding.card.endpoints == [] { return drop(key, "it serves none of the routes here") }
    if let model = configuration.modelName, finding.card.displayName != model {
      return drop(key, "it serves another model")
    }
    guard case .http(let text) = finding.record.transport else {
      if case .foreign(let kind) = finding.record.transport {
        return drop(key, "its transport '\(kind)' is not spoken here")
      }
      return nil
    }
    guard case .success(let url) = WorkerURL.parse(text), !url.isPerAddress else {
      return drop(key, "its URL cannot be used")
    }
    guard !isConfigured(url) else { return drop(key, "its URL is configured as a static worker") }
    do throws(TLSError) { if url.isSecure { try security.prepare() } } catch { return drop(key, "\(error)") }
    guard records.dead[key] != finding.touched else { return nil }
    records.dead[key] = nil
    return join(finding, url: url)
  }

  /// Removes the worker of a record that became useless.
  private func drop(_ key: String, _ reason: String) -> String {
    for member in registered where member.finding?.record.identity.instanceKey == key {
      remove(member, reason: reason)
    }
    return reason
  }

  private func join(_ finding: DiscoveryFinding, url: WorkerURL) -> String? {
    let identity = finding.record.identity
    if let member = member(identity.instanceID) {
      guard let known = member.finding, known.record.identity == identity else {
        return "its id belongs to another worker"
      }
      if member.url == url {
        let isNew = known.record != finding.record || known.card != finding.card
        if isNew {
          member.renewed(finding, facts: worker(of: finding, url: url))
        } else {
          member.finding = finding
        }
        doubt(member, before: known)
        return nil
      }
      remove(member, reason: "it registered another URL")
    }
    var worker = worker(of: finding, url: url)
    var isFresh = false
    if case .fresh = age(of: finding, isRefused: false) { isFresh = true }
    // The record says all that a probe would, unless nobody kept it fresh.
    if isFresh, !worker.upstream.addresses.isEmpty { worker.state = .ready }
    let member = member(worker, url: url, finding: finding)
    member.isDoubted = !isFresh
    guard add(member) else { return "there are too many workers" }
    if url.isNumeric { member.probeNow() } else { resolve(member) }
    return nil
  }

  private func worker(of finding: DiscoveryFinding, url: WorkerURL) -> Worker {
    let id = finding.record.identity.instanceID
    // A name is resolved elsewhere: that may take its time.
    let addresses = url.isNumeric ? configuration.resolve(url.host, url.port) : []
    var worker = Worker(
      id: id, url: url.text,
      upstream: Upstream(
        id: id, addresses: addresses, authority: url.authority, pathPrefix: url.pathPrefix,
        security: security.security(of: url), isMultiplexed: url.isMultiplexed),
      source: recordSource, models: [finding.card.displayName], isDynamoWorker: true,
      tally: WorkerTally(rowMax: configuration.outliers.rowMax))
    worker.role = finding.card.role
    if let size = configuration.blockSizeOverride ?? finding.card.blockSize { worker.blockSize = size }
    if let blocks = finding.card.totalBlocks { worker.totalBlocks = blocks }
    worker.contextLength = finding.card.contextLength
    worker.sequencesMax = finding.card.sequencesMax
    worker.batchedTokensMax = finding.card.batchedTokensMax
    worker.migrationLimit = finding.card.migrationLimit
    worker.endpoints = finding.card.endpoints ?? Worker.assumedEndpoints
    return worker
  }

  // MARK: Age

  private func age(of finding: DiscoveryFinding, isRefused: Bool) -> RecordAge {
    RecordAge(touched: finding.touched, now: loop.system.wallNanoseconds(), refused: isRefused)
  }

  /// Asks a worker whose record went stale since `before`; drops one that is known to refuse.
  private func doubt(_ member: WorkerMember, before: DiscoveryFinding) {
    guard let finding = member.finding else { return }
    switch age(of: finding, isRefused: member.isRefused) {
    case .fresh: member.isDoubted = false
    case .doubted:
      if !member.isDoubted {
        member.isDoubted = true
        member.probeNow()
      }
    case .dead: judge(member)
    }
  }

  /// Drops a registered worker whose record is dead.
  func judge(_ member: WorkerMember) {
    guard let finding = member.finding,
      case .dead = age(of: finding, isRefused: member.isRefused)
    else { return }
    records.dead[finding.record.identity.instanceKey] = finding.touched
    remove(member, reason: "nobody keeps its record and its port refuses")
  }
}
