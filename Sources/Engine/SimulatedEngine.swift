// The simulated engine: submit, cancel, advance. Sans I/O; it is told the time.

package import Base

/// An engine that batches like vLLM, takes as long as Dynamo's mocker says, and speaks from a fixed vocabulary.
///
/// Work happens in steps. A step computes up to ``EngineConfiguration/batchedTokensMax`` tokens for the sequences in
/// the batch, and at its end each of them whose tokens are all computed has one token more. The caller submits, calls
/// ``advance(to:)`` once afterwards, and again whenever ``nextDeadline`` has come. Confined to one thread.
package final class SimulatedEngine {
  package let configuration: EngineConfiguration
  let timing: TimingModel
  let observer: (any BlockObserver)?
  var blocks: BlockManager
  var waiting: [EngineSequence] = []
  var waitingTokens = 0
  /// Sequences whose blocks are on their way from another engine, with the time at which they are there.
  private var arriving: [(sequence: EngineSequence, due: Nanoseconds)] = []
  /// In order of admission.
  var running: [EngineSequence] = []
  /// The sequences that the step in flight computes.
  var batch: [EngineSequence] = []
  var stepEnd: Nanoseconds?
  var counts = EngineLoad()
  private var text = ByteBuffer(capacity: 64)
  private var isAdvancing = false
  /// Nothing can be computed until somebody submits, cancels or resumes.
  private var isBlocked = false

  /// Creates an idle engine. `configuration` must have no faults; `observer` learns of every change of the cache.
  package init(_ configuration: EngineConfiguration, observer: (any BlockObserver)? = nil) {
    precondition(configuration.faults().isEmpty, "the configuration was checked before it is used")
    self.configuration = configuration
    timing = TimingModel(configuration)
    blocks = BlockManager(capacity: configuration.blockCount)
    self.observer = observer
    blocks.observer = observer
  }

  /// When ``advance(to:)`` has work next; nil while idle. A time in the past means now.
  package var nextDeadline: Nanoseconds? {
    let arrival = arriving.lazy.map(\.due).min()
    if let stepEnd { return min(stepEnd, arrival ?? stepEnd) }
    return isBlocked || waiting.isEmpty && running.isEmpty ? arrival : 0
  }

  /// The state of queues and cache.
  package var load: EngineLoad {
    var load = counts
    load.waiting = waiting.count + arriving.count
    load.running = running.count
    load.activeBlocks = blocks.activeCount
    load.cachedBlocks = blocks.inactiveCount
    load.totalBlocks = blocks.capacity
    return load
  }

  /// Puts a request in the queue; it is looked at by the next step. Throws when it is too long or too many wait.
  package func submit(
    _ request: EngineRequest, client: any SequenceClient, now: Nanoseconds
  ) throws(EngineRefusal) -> EngineSequence {
    let tokens = BlockHash.tokenCount(bytes: request.prompt.count) + request.resumedTokens.count
    var limit = configuration.contextTokens
    if !configuration.chunkedPrefill { limit = min(limit, configuration.batchedTokensMax + 1) }
    guard tokens < limit else { throw .promptTooLong(tokens: tokens, limit: limit) }
    let wanted = request.outputTokensMax ?? 0
    guard wanted <= configuration.contextTokens else {
      throw .outputTooLong(tokens: wanted, limit: configuration.contextTokens)
    }
    guard waiting.count + arriving.count < configuration.waitingMax,
      waiting.isEmpty && arriving.isEmpty || waitingTokens + tokens <= configuration.waitingTokensMax
    else {
      counts.refusals += 1
      throw .queueFull
    }
    let sequence = EngineSequence(
      request, configuration: configuration, keepsTokens: observer != nil, client: client, now: now)
    waitingTokens += sequence.tokenCount
    let transfer = timing.transfer(tokens: sequence.receivedBlocks * configuration.blockSize)
    if transfer > 0 {
      sequence.state = .arriving
      arriving.append((sequence, now + transfer))
      return sequence
    }
    waiting.append(sequence)
    isBlocked = false
    return sequence
  }

  /// Ends a sequence without another word to its client and frees its blocks at once. Returns what it had used; a
  /// sequence that ended before stays as it was.
  @discardableResult
  package func cancel(_ sequence: EngineSequence, now: Nanoseconds) -> SequenceUsage {
    switch sequence.state {
    case .arriving:
      arriving.removeAll { $0.sequence === sequence }
      waitingTokens -= sequence.tokenCount
    case .waiting:
      if let index = waiting.firstIndex(where: { $0 === sequence }) {
        waiting.remove(at: index)
        waitingTokens -= sequence.tokenCount
      }
    case .running: removeFromBatch(sequence)
    case .ended: return sequence.usage(at: now)
    }
    sequence.state = .ended
    sequence.client = nil
    isBlocked = false
    return sequence.usage(at: now)
  }

  /// Forgets the cache's content; false, and nothing done, while a sequence uses a block. The observer hears of it now,
  /// and of the step that it belongs to when there is one.
  package func resetPrefixCache() -> Bool {
    guard blocks.forgetAll() else { return false }
    observer?.cleared()
    return true
  }

  /// Holds a sequence whose reader is slow: it keeps its blocks and gets no further token until ``resume(_:)``.
  package func pause(_ sequence: EngineSequence) { sequence.isPaused = true }

  /// Lets a held sequence go on.
  package func resume(_ sequence: EngineSequence) {
    guard sequence.isPaused else { return }
    sequence.isPaused = false
    isBlocked = false
  }

  /// Ends the steps that are over at `now`, tells the clients, and begins the next. Steps that take no time are done
  /// one a call, so that a caller with an infinitely fast engine still gets its turn.
  package func advance(to now: Nanoseconds) {
    precondition(!isAdvancing, "a client may submit and cancel in a call-back, not advance")
    isAdvancing = true
    defer { isAdvancing = false }
    if !arriving.isEmpty { takeArrivals(at: now) }
    var turns = 0
    while turns < Self.stepsPerCall {
      if let end = stepEnd {
        guard end <= now else { return }
        finishStep(at: end)
      }
      // A step follows the last one without a gap, unless the caller came much too late.
      let start = max(stepEnd ?? now, now > Self.lateness ? now - Self.lateness : 0)
      stepEnd = nil
      guard beginStep(at: min(start, now)) else {
        isBlocked = true
        return
      }
      turns += 1
      if let end = stepEnd, end <= start { return }
    }
  }

  /// Queues the sequences whose blocks are there, in the order in which they came.
  private func takeArrivals(at now: Nanoseconds) {
    for (sequence, due) in arriving.sorted(by: { $0.due < $1.due }) where due <= now {
      sequence.state = .waiting
      waiting.append(sequence)
      isBlocked = false
    }
    arriving.removeAll { $0.due <= now }
  }

  /// Steps that one call may catch up.
  private static let stepsPerCall = 16
  /// How far behind the clock the engine catches up; beyond it the time is lost.
  private static let lateness = 20 * millisecond

  private func finishStep(at end: Nanoseconds) {
    let computed = batch
    batch.removeAll(keepingCapacity: true)
    for sequence in computed {
      guard case .running = sequence.state, sequence.yieldsToken, let client = sequence.client else {
        continue
      }
      sequence.yieldsToken = false
      text.removeAll()
      let reason = sequence.generate(at: end, text: &text)
      if let reason {
        removeFromBatch(sequence)
        sequence.state = .ended
        sequence.client = nil
        client.produced(text.readable)
        client.finished(SequenceSummary(reason: reason, usage: sequence.usage(at: end)))
      } else {
        client.produced(text.readable)
      }
    }
  }

  private func removeFromBatch(_ sequence: EngineSequence) {
    if let index = running.firstIndex(where: { $0 === sequence }) { running.remove(at: index) }
    releaseBlocks(of: sequence)
  }

  /// Gives the blocks back, the last first, so that of a prefix the far end is evicted before the beginning.
  func releaseBlocks(of sequence: EngineSequence) {
    for block in sequence.blocks.reversed() { blocks.release(block) }
    sequence.blocks.removeAll()
    sequence.knownBlocks = 0
  }
}
