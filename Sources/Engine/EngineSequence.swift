// One sequence in the simulated engine: its tokens as hashes, its blocks, its text so far.

package import Base

/// A request on its way through the engine; the caller keeps it only to cancel it.
///
///     (arriving ->) waiting -> running -> ended
///        ^----------'   (preempted: blocks lost, tokens kept)
package final class EngineSequence {
  enum State { case arriving, waiting, running, ended }

  var state = State.waiting
  var isPaused = false
  var client: (any SequenceClient)?
  private(set) var usage = SequenceUsage()

  /// Chained hashes of the full blocks of prompt and output.
  private(set) var hashes: [UInt64] = []
  /// Full blocks of the prompt.
  private var promptBlocks = 0
  /// How many of them, from the front, another engine computed; 0 once they are lost.
  private(set) var receivedBlocks = 0
  /// The bytes of the tokens behind the last full block.
  private var tail: [UInt8] = []
  /// Prompt and output tokens.
  private(set) var tokenCount: Int
  /// Prompt and output tokens themselves, for the reports of stored blocks; empty when nobody wants them.
  private var tokens: [UInt32] = []
  private let keepsTokens: Bool
  /// Tokens whose cache entries exist, or will when the step in flight ends.
  var computedTokens = 0
  var blocks: [Int32] = []
  /// How many of `blocks`, from the front, are known by their hashes.
  var knownBlocks = 0
  /// True while the step in flight computes the last token, so that it ends with a new one.
  var yieldsToken = false

  private let blockBytes: Int
  private let salt: UInt64
  private let saltText: String
  private let outputTokensMax: Int
  private let contextTokens: Int
  private var stream: TokenStream
  private var stops: StopMatcher
  private let submitted: Nanoseconds
  private var scheduled: Nanoseconds?
  private var firstToken: Nanoseconds?

  init(
    _ request: EngineRequest, configuration: EngineConfiguration, keepsTokens: Bool,
    client: any SequenceClient, now: Nanoseconds
  ) {
    self.client = client
    blockBytes = configuration.blockSize * BlockHash.bytesPerToken
    self.keepsTokens = keepsTokens
    saltText = request.cacheSalt
    salt = BlockHash.salt(request.cacheSalt)
    contextTokens = configuration.contextTokens
    outputTokensMax = request.outputTokensMax ?? Int.max
    submitted = now
    stops = StopMatcher(request.stops)
    stream = TokenStream(
      seed: configuration.seed, promptHash: XXH3.hash(request.prompt, seed: configuration.seed),
      variation: request.variation, endsByItself: request.outputTokensMax == nil)
    tokenCount = BlockHash.tokenCount(bytes: request.prompt.count)
    hashes.reserveCapacity(request.prompt.count / blockBytes + 4)
    var offset = 0
    while request.prompt.count - offset >= blockBytes {
      appendBlock(request.prompt.slice(offset..<offset + blockBytes))
      offset += blockBytes
    }
    tail.append(contentsOf: request.prompt.slice(offset..<request.prompt.count))
    while tail.count % BlockHash.bytesPerToken != 0 { tail.append(0) }
    if keepsTokens { keepTokens(of: request.prompt.slice(0..<offset)) }
    closeTail()
    for token in request.resumedTokens {
      stream.resume(with: token)
      append(token)
    }
    usage.promptTokens = tokenCount
    promptBlocks = hashes.count
    receivedBlocks = zip(request.receivedBlockNames, hashes).prefix { $0 == Self.name(of: $1) }.count
  }

  /// What another engine knows the prompt's full blocks by. Names follow from the content, so that an engine sees which of
  /// those that it is given are the prompt's.
  package var promptBlockNames: [Int] { hashes.prefix(promptBlocks).map { Self.name(of: $0) } }

  private static func name(of hash: UInt64) -> Int { Int(hash & 0x7fff_ffff) }

  /// True while the tokens at hand are not all computed but for the newest: a prompt, or a preempted sequence.
  var isPrefilling: Bool { tokenCount - computedTokens > 1 || usage.outputTokens == 0 }

  /// Notes that a step beginning at `now` computes tokens of this sequence, `cached` of them found in the cache.
  func wasScheduled(at now: Nanoseconds, cached: Int) {
    guard scheduled == nil else { return }
    scheduled = now
    usage.cachedTokens = cached
    usage.queueTime = now > submitted ? now - submitted : 0
  }

  func wasPreempted() {
    usage.preemptions += 1
    receivedBlocks = 0
    computedTokens = 0
    knownBlocks = 0
    yieldsToken = false
    state = .waiting
  }

  /// Generates one token at `now`; what may be shown goes to `text`. The result says why the sequence ends, if it does.
  func generate(at now: Nanoseconds, text: inout ByteBuffer) -> FinishReason? {
    let previous = stream.last
    let token = stream.next()
    append(token)
    usage.outputTokens += 1
    if let firstToken {
      usage.decodeTime = now - firstToken
    } else {
      firstToken = now
      usage.prefillTime = now - (scheduled ?? now)
    }
    let stopped = stops.receive(&text) { Vocabulary.append(token, after: previous, to: &$0) }
    if stopped { return .stop }
    if stream.isComplete {
      stops.flush(&text)
      return .stop
    }
    if stream.count >= outputTokensMax || tokenCount >= contextTokens {
      stops.flush(&text)
      return .length
    }
    return nil
  }

  /// The counts so far; a sequence that never ran has waited until `now`.
  package func usage(at now: Nanoseconds) -> SequenceUsage {
    var usage = usage
    if scheduled == nil { usage.queueTime = now > submitted ? now - submitted : 0 }
    return usage
  }

  /// The report of the blocks `range`, all of which are full.
  func stored(_ range: Range<Int>) -> StoredBlocks {
    let blockSize = blockBytes / BlockHash.bytesPerToken
    return StoredBlocks(
      hashes: Array(hashes[range]), parent: range.lowerBound > 0 ? hashes[range.lowerBound - 1] : nil,
      tokens: Array(tokens[range.lowerBound * blockSize..<range.upperBound * blockSize]), salt: saltText)
  }

  /// Keeps the tokens of the prompt's full blocks, `blocks`, and of the tail behind them.
  private func keepTokens(of blocks: UnsafeRawBufferPointer) {
    tokens.reserveCapacity(tokenCount + 64)
    func keep(_ bytes: UnsafeRawBufferPointer) {
      for offset in stride(from: 0, to: bytes.count, by: BlockHash.bytesPerToken) {
        tokens.append(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
      }
    }
    keep(blocks)
    tail.withUnsafeBytes { keep($0) }
  }

  private func append(_ token: UInt32) {
    tokenCount += 1
    if keepsTokens { tokens.append(token) }
    withUnsafeBytes(of: token.littleEndian) { tail.append(contentsOf: $0) }
    closeTail()
  }

  private func closeTail() {
    guard tail.count == blockBytes else { return }
    tail.withUnsafeBytes { appendBlock($0) }
    tail.removeAll(keepingCapacity: true)
  }

  private func appendBlock(_ content: UnsafeRawBufferPointer) {
    hashes.append(BlockHash.chained(content, parent: hashes.last, salt: salt))
  }
}
