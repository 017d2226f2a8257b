// A worker's own records in etcd: written under a lease in one step, kept by keep-alives, withdrawn by giving the lease up.

internal import Base
package import EventLoop
internal import JSON
package import Logging
internal import TLS

/// Keeps one instance registered. Loop-confined; one call is under way at a time, and what is to be done next follows from
/// what is wanted and what is there.
package final class EtcdRegistration: TimerHandler {
  private let settings: EtcdSettings
  private let record: DiscoveryRecord
  private let loop: EventLoop
  private let client: EtcdClient
  private let logger: Logger
  private let timer = Timer()
  private var backoff = APIBackoff()
  /// What is to be registered; nil for nothing.
  private var wanted: ModelCard?
  private var lease: String?
  /// What lies under ``lease``.
  private var written: ModelCard?
  private var isCalling = false
  private var keepAliveAt: Nanoseconds = 0
  /// Keep-alives since the records were seen in the store.
  private var keptAlive = 0
  private var isFailing = false
  private var isResting = false
  private var withdrawals = 0
  private var isClosed = false

  /// Attempts to give a lease up before it is left to run out.
  private static let withdrawalsMax = 3
  /// Keep-alives, three to a lease's time, after which the records are looked for: somebody may have removed them.
  private static let keptAliveMax = 6

  /// Prepares a registration; nothing is written yet. Nil, with a line in the log, when a file for TLS cannot be used:
  /// ``EtcdSettings/faults()`` tells that beforehand.
  package convenience init?(
    _ settings: EtcdSettings, record: DiscoveryRecord, on loop: EventLoop, logger: Logger
  ) {
    let connector: any APIConnector
    do throws(TLSError) {
      connector = try settings.connector(on: loop, silence: settings.silence) {
        SocketAddress.resolve(host: $0, port: $1)
      }
    } catch {
      logger.error("cannot register in etcd", metadata: ["error": "\(error.reason)"])
      return nil
    }
    self.init(settings, connector: connector, record: record, on: loop, logger: logger)
  }

  init(
    _ settings: EtcdSettings, connector: any APIConnector, record: DiscoveryRecord, on loop: EventLoop,
    logger: Logger
  ) {
    self.settings = settings
    self.record = record
    self.loop = loop
    self.logger = logger
    client = EtcdClient(settings, connector: connector, first: loop.random.next())
  }

  /// Nothing of this worker is there, or nothing more can be done about it.
  package var isWithdrawn: Bool { wanted == nil && lease == nil && !isCalling }

  /// Registers, or replaces the card of what is registered; tries again until it is done.
  package func register(_ card: ModelCard) {
    wanted = card
    // After a failure it rests first.
    if !isResting { step() }
  }

  package func withdraw() {
    guard wanted != nil else { return }
    wanted = nil
    withdrawals = 0
    isResting = false
    loop.cancel(timer)
    step()
  }

  package func close() {
    isClosed = true
    loop.cancel(timer)
    client.close()
  }

  package func timerFired(_ timer: Timer) {
    isResting = false
    step()
  }

  // MARK: Steps

  private func step() {
    guard !isCalling, !isClosed else { return }
    guard let card = wanted else {
      if let lease { revoke(lease) }
      return
    }
    guard let lease else { return grant() }
    if written != card {
      write(card, lease)
    } else if keptAlive >= Self.keptAliveMax {
      restore(card, lease)
    } else if loop.now >= keepAliveAt {
      keepAlive(lease)
    } else {
      loop.arm(timer, at: keepAliveAt, self)
    }
  }

  private func call(
    _ path: String, _ body: String, _ done: @escaping (EtcdRegistration, JSONValue) -> Void
  ) {
    loop.cancel(timer)
    isCalling = true
    client.call(path, body) { [weak self] result in
      guard let self else { return }
      isCalling = false
      switch result {
      case .success(let answer):
        if isFailing { logger.info("etcd answers again", metadata: ["etcd": "\(client.serverName)"]) }
        isFailing = false
        done(self, answer)
        if !isResting {
          backoff.reset()
          step()
        }
      case .failure(let failure): failed(failure)
      }
    }
  }

  private func grant() {
    call("/v3/lease/grant", EtcdRequest.grant(seconds: settings.leaseSeconds)) { this, answer in
      guard let id = answer["ID"]?.string, Int(id) != nil else { return this.refused("it gave no lease") }
      this.lease = id
      this.written = nil
    }
  }

  private func pairs(_ card: ModelCard) -> [(key: String, value: String)] {
    var instance = ByteBuffer(capacity: 512)
    record.write(to: &instance)
    var model = ByteBuffer(capacity: 512)
    card.write(to: &model)
    return [(record.identity.cardKey, model.text), (record.identity.instanceKey, instance.text)]
  }

  /// Writes what is no longer there. Keys that another took are left to it.
  private func restore(_ card: ModelCard, _ lease: String) {
    call("/v3/kv/txn", EtcdRequest.putUnlessThere(pairs(card), lease: lease)) { this, answer in
      this.keptAlive = 0
      if answer["succeeded"]?.bool != true {
        this.logger.warning("records were gone from etcd; written again")
      }
    }
  }

  private func write(_ card: ModelCard, _ lease: String) {
    call("/v3/kv/txn", EtcdRequest.put(pairs(card), lease: lease)) { this, _ in
      let isNew = this.written == nil
      this.written = card
      this.keptAlive = 0
      this.planKeepAlive()
      guard isNew else { return }
      this.logger.info(
        "registered",
        metadata: ["etcd": "\(this.client.serverName)", "key": "\(this.record.identity.instanceKey)"])
    }
  }

  private func keepAlive(_ lease: String) {
    call("/v3/lease/keepalive", EtcdRequest.lease(lease)) { this, answer in
      let left = EtcdAnswer.number(answer["result"]?["TTL"]) ?? EtcdAnswer.number(answer["TTL"]) ?? 0
      this.keptAlive += 1
      if left > 0 { this.planKeepAlive() } else { this.leaseIsGone() }
    }
  }

  private func planKeepAlive() { keepAliveAt = loop.now + UInt64(settings.leaseSeconds) * second / 3 }

  private func revoke(_ lease: String) {
    withdrawals += 1
    call("/v3/lease/revoke", EtcdRequest.lease(lease)) { this, _ in
      this.lease = nil
      this.written = nil
      this.logger.info(
        "withdrawn from discovery", metadata: ["key": "\(this.record.identity.instanceKey)"])
    }
  }

  private func leaseIsGone() {
    lease = nil
    written = nil
    logger.warning("the lease in etcd has run out; registering anew")
  }

  private func refused(_ reason: String) { failed(EtcdFailure(reason: reason)) }

  private func failed(_ failure: EtcdFailure) {
    if failure.isLeaseGone {
      lease = nil
      written = nil
    }
    if !isFailing {
      logger.warning(
        "etcd does not do what it is asked",
        metadata: ["etcd": "\(client.serverName)", "error": "\(failure.reason)"])
    }
    isFailing = true
    client.rotate()
    if wanted == nil {
      if failure.isLeaseGone || withdrawals >= Self.withdrawalsMax { lease = nil } else { step() }
      return
    }
    isResting = true
    loop.arm(timer, at: loop.now + backoff.next(&loop.random), self)
  }
}
