// The exchange of load with other frontends: one socket to tell, one to hear each of them.

internal import Base
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Routing

/// Tells other frontends what this one books, and the routers what the others do. Loop-confined.
///
/// Nothing of it is on a request's way: routers note what changed, and this asks them for it every few milliseconds.
final class PeerExchange: TimerHandler {
  private enum Tag {
    static let tell: UInt8 = 1
    static let retry: UInt8 = 2
  }

  /// Messages taken from one peer in a turn, so that a busy one does not hold the thread.
  private static let turnMessagesMax = 64
  /// An address in use, as while the former process still drains, is tried again.
  private static let retryInterval = second

  private let loop: EventLoop
  private let settings: PeerExchangeSettings
  private let hashesTokens: Bool
  private let board: PeerBoard
  private let logger: Logger
  private let models: () -> [ServedModel]
  private let incarnation: UInt64
  private var frontends: PeerFrontends
  private var context: ZeroMQContext?
  private var outlet: ZeroMQSocket?
  private var inlets: [String: ZeroMQSocket] = [:]
  private var message = ZeroMQMessage()
  private var sequence: UInt64 = 0
  private var fullDue: Nanoseconds = 0
  private var status = PeerBoard.Status()
  private var saidUnbound = false
  private var heard: [String: Bool] = [:]
  private let tellTimer = Timer(tag: Tag.tell)
  private let retryTimer = Timer(tag: Tag.retry)
  private lazy var turns = FeedTurns(on: loop) { [weak self] in self?.hear() }

  /// - Parameters:
  ///   - hashesTokens: prompts are hashed by their tokens here, not by their bytes.
  ///   - models: what is served now.
  init(
    loop: EventLoop, settings: PeerExchangeSettings, hashesTokens: Bool, board: PeerBoard, logger: Logger,
    models: @escaping () -> [ServedModel]
  ) {
    self.loop = loop
    self.settings = settings
    self.hashesTokens = hashesTokens
    self.board = board
    self.logger = logger
    self.models = models
    incarnation = loop.random.next()
    frontends = PeerFrontends(own: incarnation, lease: settings.lease)
  }

  // MARK: Life

  /// Listens and connects. Without libzmq nothing follows, which the log says.
  func start() {
    do throws(ZeroMQError) {
      context = try ZeroMQContext()
    } catch {
      logger.error("load is not exchanged with other frontends", metadata: ["reason": "\(error)"])
      return
    }
    for address in settings.peers.prefix(PeerExchangeSettings.peersMax) { connect(address) }
    bind()
    tell()
    turns.request()
  }

  func close() {
    loop.cancel(tellTimer)
    loop.cancel(retryTimer)
    turns.close()
    inlets = [:]
    outlet = nil
    context = nil
  }

  /// Where the others hear this one, with the port that was found; nil while nowhere.
  var boundAddress: String? { outlet?.boundAddress }

  func timerFired(_ timer: Timer) {
    if timer.tag == Tag.retry { bind() } else { tell() }
  }

  private func bind() {
    guard let context else { return }
    do throws(ZeroMQError) {
      let socket = try ZeroMQSocket(.publish, context: context, options: Self.options)
      try socket.bind(settings.address)
      outlet = socket
      logger.info("load is told to other frontends", metadata: ["address": "\(socket.boundAddress)"])
    } catch {
      if !saidUnbound {
        logger.warning(
          "load cannot be told to other frontends yet; tried again until it can",
          metadata: ["address": "\(settings.address)", "reason": "\(error)"])
      }
      saidUnbound = true
      loop.arm(retryTimer, at: loop.now + Self.retryInterval, self)
    }
  }

  private func connect(_ address: String) {
    guard let context, inlets[address] == nil else { return }
    do throws(ZeroMQError) {
      let socket = try ZeroMQSocket(.subscribe, context: context, options: Self.options)
      try socket.subscribe(PeerMessage.prefix)
      try socket.connect(address)
      do throws(SystemError) {
        try turns.watch(socket.descriptor)
      } catch {
        logger.error(
          "another frontend cannot be heard", metadata: ["address": "\(address)", "reason": "\(error)"])
        return
      }
      inlets[address] = socket
      frontends.add(address)
    } catch {
      logger.error(
        "another frontend cannot be heard", metadata: ["address": "\(address)", "reason": "\(error)"])
    }
  }

  private static let options = {
    var options = ZeroMQSocketOptions()
    // Each message is up to date when it is made: a peer that lags wants the latest, not all.
    options.sendQueueMax = 128
    options.receiveQueueMax = 128
    options.frameBytesMax = Int64(PeerMessage.bytesMax)
    return options
  }()

  // MARK: Telling

  /// Tells what changed, and from time to time all there is; and sees who has gone silent.
  private func tell() {
    let isFull = loop.now >= fullDue
    var loads: [PeerMessage.ModelLoad] = []
    var droppedPrompts = 0
    for model in models() {
      let share = model.routing.takeShare(isFull: isFull)
      if !share.rows.isEmpty { loads.append(PeerMessage.ModelLoad(model: model.name, rows: share.rows)) }
      droppedPrompts += share.droppedPrompts
      if !share.prompts.prompts.isEmpty {
        send(.prompts(model: model.name, ofTokens: hashesTokens, share.prompts))
      }
    }
    if isFull || !loads.isEmpty { send(.load(isFull: isFull, loads)) }
    frontends.timePassed(now: loop.now)
    apply()
    if isFull {
      fullDue = loop.now + settings.fullInterval
      status.droppedPrompts = max(status.droppedPrompts, droppedPrompts)
      report()
    }
    loop.arm(tellTimer, at: loop.now + max(settings.interval, millisecond), self)
  }

  private func send(_ body: PeerMessage.Body) {
    guard let outlet else { return }
    sequence += 1
    let message = PeerMessage(incarnation: incarnation, sequence: sequence, body: body)
    status.omittedRows += message.omittedRows
    do throws(ZeroMQError) {
      // A publisher drops for those that lag, and never refuses.
      if try outlet.send(message: [message.encoded()]) { status.sent += 1 }
    } catch {
      status.failedSends += 1
    }
    outlet.takeNews()
  }

  // MARK: Hearing

  private func hear() {
    var hasMore = false
    for (address, socket) in inlets where !drain(socket, address) { hasMore = true }
    apply()
    if hasMore { turns.request(at: 0) }
  }

  /// Takes what one peer sent, a turn's worth at most; true when nothing is left.
  private func drain(_ socket: ZeroMQSocket, _ address: String) -> Bool {
    for _ in 0..<Self.turnMessagesMax {
      do throws(ZeroMQError) {
        guard try socket.receive(into: &message) else { return true }
      } catch {
        status.failedReceives += 1
        return true
      }
      // One frame too many or none at all is no message: read as an empty one it is counted as that.
      let isOne = message.count == 1 && !message.hasTooManyFrames
      let bytes = isOne ? message[0] : UnsafeRawBufferPointer(start: nil, count: 0)
      if let prompts = frontends.received(bytes, from: address, now: loop.now) { predict(prompts) }
    }
    return false
  }

  private func predict(_ message: PeerMessage) {
    guard case .prompts(let name, let ofTokens, let prompts) = message.body else { return }
    guard ofTokens == hashesTokens else { return frontends.refusedPrompts() }
    models().first { $0.name == name }?.routing.predict(prompts, now: loop.now)
  }

  /// Has the routers count what changed.
  private func apply() { set(frontends.takeChanged()) }

  /// The workers of models changed: one that came is told what others have on it.
  func workersChanged() {
    guard context != nil else { return }
    set(frontends.loaded)
  }

  private func set(_ keys: Set<PeerKey>) {
    guard !keys.isEmpty else { return }
    var rows: [String: [PeerShare.Row]] = [:]
    for key in keys {
      rows[key.model, default: []].append(PeerShare.Row(worker: key.worker, load: frontends.total(key)))
    }
    for model in models() {
      if let rows = rows[model.name] { model.routing.setPeers(rows, now: loop.now) }
    }
  }

  // MARK: What is shown

  private func report() {
    status.presence = frontends.presence
    status.counters = frontends.counters
    status.isBound = outlet != nil
    for (address, isHeard) in status.presence where heard[address, default: false] != isHeard {
      heard[address] = isHeard
      logger.info(
        isHeard ? "another frontend is heard" : "another frontend is silent: its load is dropped",
        metadata: ["address": "\(address)"])
    }
    board.set(status)
  }
}
