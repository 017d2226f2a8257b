// What goes into the next step: running sequences first, then waiting ones, within tokens, places and blocks.

internal import Base

extension SimulatedEngine {
  /// Chooses the sequences of a step that begins at `now` and sets its end. False when there is nothing to do.
  func beginStep(at now: Nanoseconds) -> Bool {
    var step = Step(budget: configuration.batchedTokensMax, now: now)
    let preempted = scheduleRunning(&step)
    // Blocks were just taken away from somebody: no newcomer gets them.
    if !preempted { scheduleWaiting(&step) }
    observer?.stepScheduled()
    guard !batch.isEmpty else { return false }
    counts.steps += 1
    let usage = Double(blocks.activeCount) / Double(blocks.capacity)
    stepEnd = now + timing.step(prefillTokens: step.prefillTokens, decodes: step.decodes, usage: usage)
    return true
  }

  /// Gives every running sequence its next tokens, in order of admission. True when one had to be preempted.
  private func scheduleRunning(_ step: inout Step) -> Bool {
    var preempted = false
    var index = 0
    while index < running.count, step.budget > 0 {
      let sequence = running[index]
      if sequence.isPaused {
        index += 1
        continue
      }
      let tokens = min(sequence.tokenCount - sequence.computedTokens, step.budget)
      var fits = allocate(sequence, tokens: tokens)
      while !fits, let victim = nextVictim(sparing: index) {
        preempt(victim)
        preempted = true
        fits = allocate(sequence, tokens: tokens)
      }
      guard fits else {
        preempt(index)
        return true
      }
      compute(sequence, tokens: tokens, &step)
      index += 1
    }
    return preempted
  }

  /// Admits waiting sequences, first come, first served, as long as each finds room.
  private func scheduleWaiting(_ step: inout Step) {
    var admitted = 0
    while admitted < waiting.count, running.count < configuration.sequencesMax, step.budget > 0 {
      let sequence = waiting[admitted]
      let hits = cachedBlocks(of: sequence)
      let cached =
        max(hits.count, usableBlocks(sequence.receivedBlocks, of: sequence)) * configuration.blockSize
      let missing = sequence.tokenCount - cached
      if !configuration.chunkedPrefill, missing > step.budget { break }
      let tokens = min(missing, step.budget)
      guard hasRoom(for: cached + tokens, hits: hits) else { break }
      for block in hits { blocks.acquire(block) }
      sequence.blocks = hits
      sequence.knownBlocks = hits.count
      sequence.computedTokens = cached
      guard allocate(sequence, tokens: tokens) else {
        releaseBlocks(of: sequence)
        sequence.computedTokens = 0
        break
      }
      if sequence.usage(at: step.now).preemptions == 0 {
        counts.promptTokens += sequence.tokenCount
        counts.cachedTokens += cached
      }
      sequence.wasScheduled(at: step.now, cached: cached)
      sequence.state = .running
      waitingTokens -= sequence.tokenCount
      running.append(sequence)
      compute(sequence, tokens: tokens, &step)
      admitted += 1
    }
    waiting.removeFirst(admitted)
  }

  /// The known blocks at the front of a sequence. Its last token is always computed, or there would be nothing to
  /// generate from.
  private func cachedBlocks(of sequence: EngineSequence) -> [Int32] {
    guard configuration.prefixCaching else { return [] }
    var hits: [Int32] = []
    for hash in sequence.hashes.prefix(usableBlocks(sequence.hashes.count, of: sequence)) {
      guard let block = blocks.find(hash) else { break }
      hits.append(block)
    }
    return hits
  }

  /// Of `count` blocks at the front of a sequence those behind which at least its last token is left.
  private func usableBlocks(_ count: Int, of sequence: EngineSequence) -> Int {
    min(count, (sequence.tokenCount - 1) / configuration.blockSize)
  }

  /// True when `tokens` fit and the watermark stays free. An empty batch may use everything: somebody must go first.
  private func hasRoom(for tokens: Int, hits: [Int32]) -> Bool {
    let revived = hits.reduce(0) { blocks.isInactive($1) ? $0 + 1 : $0 }
    let reserve = running.isEmpty ? 0 : Int(configuration.watermark * Double(blocks.capacity))
    return blocks.availableCount - revived - (blockCount(tokens) - hits.count) >= reserve
  }

  private func blockCount(_ tokens: Int) -> Int {
    (tokens + configuration.blockSize - 1) / configuration.blockSize
  }

  /// Adds the blocks that the next `tokens` of a sequence need; false, and nothing taken, when there are not enough.
  private func allocate(_ sequence: EngineSequence, tokens: Int) -> Bool {
    let needed = blockCount(sequence.computedTokens + tokens) - sequence.blocks.count
    guard needed <= blocks.availableCount else { return false }
    for _ in 0..<max(0, needed) {
      guard let block = blocks.allocate() else { return false }
      sequence.blocks.append(block)
    }
    return true
  }

  /// Puts `tokens` of a sequence, whose blocks are there, into the step. Blocks that become full are known from now on.
  private func compute(_ sequence: EngineSequence, tokens: Int, _ step: inout Step) {
    if sequence.isPrefilling { step.prefillTokens += tokens } else { step.decodes = true }
    step.budget -= tokens
    sequence.computedTokens += tokens
    sequence.yieldsToken = sequence.computedTokens == sequence.tokenCount
    batch.append(sequence)
    guard configuration.prefixCaching else { return }
    let full = min(sequence.computedTokens / configuration.blockSize, sequence.hashes.count)
    register(sequence, upTo: full)
  }

  /// Makes the blocks of a sequence known up to the one before `full`, and reports those that the cache did not have.
  private func register(_ sequence: EngineSequence, upTo full: Int) {
    guard sequence.knownBlocks < full else { return }
    var first = sequence.knownBlocks
    for index in sequence.knownBlocks..<full {
      let own = sequence.blocks[index]
      let block = blocks.register(own, hash: sequence.hashes[index])
      guard block != own else { continue }
      sequence.blocks[index] = block
      report(sequence, first..<index)
      first = index + 1
    }
    report(sequence, first..<full)
    sequence.knownBlocks = full
  }

  private func report(_ sequence: EngineSequence, _ range: Range<Int>) {
    guard let observer, !range.isEmpty else { return }
    observer.stored(sequence.stored(range))
  }

  /// Who loses its blocks for the sequence at `index`: never one that is in this step already, nor that one itself.
  private func nextVictim(sparing index: Int) -> Int? {
    guard running.count > index + 1 else { return nil }
    return switch configuration.preemption {
    case .lifo: running.count - 1
    case .fifo: index + 1
    }
  }

  /// Takes the blocks of the running sequence at `index` and puts it at the head of the queue.
  private func preempt(_ index: Int) {
    let sequence = running.remove(at: index)
    releaseBlocks(of: sequence)
    sequence.wasPreempted()
    counts.preemptions += 1
    waiting.insert(sequence, at: 0)
    waitingTokens += sequence.tokenCount
  }
}

/// A step that is being put together.
private struct Step {
  var budget: Int
  let now: Nanoseconds
  var prefillTokens = 0
  var decodes = false

  init(budget: Int, now: Nanoseconds) {
    self.budget = budget
    self.now = now
  }
}
