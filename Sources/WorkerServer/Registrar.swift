// Keeps a worker's records in the discovery folder fresh while it can serve, and takes them away when it cannot.

internal import Base
internal import EventLoop
internal import Logging
internal import Workers

/// Makes a worker known while it can serve. Loop-confined.
protocol Registrar: AnyObject {
  /// Registers, or replaces the card of what is registered; tries again until it is done.
  func register(_ card: ModelCard)
  func withdraw()
  /// Nothing of this worker is there any more, or nothing more can be done about it.
  var isWithdrawn: Bool { get }
  /// The worker ends.
  func close()
}

extension EtcdRegistration: Registrar {}

/// Loop-confined owner of a registration. The files are tiny and local; touching them takes microseconds.
final class FolderRegistrar: Registrar, TimerHandler {
  private let loop: EventLoop
  private let folder: DiscoveryFolder
  private let record: DiscoveryRecord
  private let logger: Logger
  private var registration: FileRegistration?
  private var card: ModelCard?
  private let timer = Timer()
  private var hasFailed = false

  init(_ folder: DiscoveryFolder, record: DiscoveryRecord, on loop: EventLoop, logger: Logger) {
    self.loop = loop
    self.folder = folder
    self.record = record
    self.logger = logger
  }

  /// Registers, or replaces the card of what is registered. A failure is logged and tried again.
  func register(_ card: ModelCard) {
    if registration?.isRegistered == true, self.card == card { return }
    self.card = card
    registration?.withdraw()
    registration = FileRegistration(folder: folder, record: record, card: card)
    attempt { try $0.register() }
  }

  func withdraw() {
    loop.cancel(timer)
    guard registration?.isRegistered == true else { return }
    registration?.withdraw()
    registration = nil
    logger.info("withdrawn from discovery", metadata: ["key": "\(record.identity.instanceKey)"])
  }

  var isWithdrawn: Bool { registration?.isRegistered != true }

  func close() { loop.cancel(timer) }

  func timerFired(_ timer: Timer) {
    attempt { registration in
      if registration.isRegistered { try registration.touch() } else { try registration.register() }
    }
  }

  private func attempt(_ body: (FileRegistration) throws -> Void) {
    guard let registration else { return }
    let wasRegistered = registration.isRegistered && !hasFailed
    do {
      try body(registration)
      if !wasRegistered {
        logger.info(
          "registered", metadata: ["folder": "\(folder.path)", "key": "\(record.identity.instanceKey)"])
      }
      hasFailed = false
    } catch {
      if !hasFailed { logger.warning("could not register", metadata: ["error": "\(error)"]) }
      hasFailed = true
    }
    loop.arm(timer, at: loop.now + FileRegistration.touchInterval, self)
  }
}
