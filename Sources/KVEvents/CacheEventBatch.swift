// What an engine says about its KV cache: one batch of events, flat, in memory that is used again.

/// Where a block lies (Dynamo's storage tiers).
package enum CacheTier: Sendable, Equatable {
  case device, host, disk, external
}

/// One event; its ranges point into the arrays of its ``CacheEventBatch``.
package struct CacheEvent: Sendable, Equatable {
  /// What happened.
  package enum Kind: Sendable, Equatable {
    /// Blocks came in, each the child of the one before it.
    case stored
    /// Blocks went out.
    case removed
    /// Everything went out, of all tiers.
    case cleared
  }

  package var kind: Kind
  /// Where the blocks lie; of no meaning when all are cleared.
  package var tier = CacheTier.device
  /// The engine's hashes of the blocks, in the batch's `hashes`.
  package var hashes = 0..<0
  /// Stored: the blocks' tokens in the batch's `tokens`, exactly `blockSize` for each hash.
  package var tokens = 0..<0
  /// Stored: the engine's hash of the block before the first one; nil when the first begins a prompt.
  package var parent: UInt64?
  /// Stored: tokens in a block, at least 1.
  package var blockSize = 0
  /// Stored: name of the LoRA adapter, in the batch's `text`; empty for the base model.
  package var adapter = 0..<0
  /// Stored: the cache salt, in the batch's `text`; empty for none. vLLM names it on a prompt's first block alone: the
  /// children have it from there.
  package var salt = 0..<0
  /// Stored: how many leading blocks are named by nothing but tokens, adapter and salt. Those behind them, and all their
  /// descendants, depend on more (an image, an adapter without a name), and must not be hashed by tokens.
  package var hashableBlocks = 0
  /// Stored: the engine keys by pairs of tokens (SGLang with Eagle). `tokens` holds the first of each pair, which are the
  /// prompt's own tokens: hashing them finds the same blocks, off by one token at a block's end at most.
  package var isBigram = false
}

/// The events of one message, flat.
///
/// A value that shares its arrays: a kept copy stays as it is, and one that is not kept costs nothing.
package struct CacheEventBatch: Sendable, Equatable {
  /// When the engine made it: seconds since 1970, by the engine's clock.
  package var timestamp = 0.0
  /// The engine's data parallel rank; nil when it names none.
  package var rank: Int?
  /// In the order they happened: a removal may precede or follow a store of the same block.
  package var events: [CacheEvent] = []
  package var hashes: [UInt64] = []
  package var tokens: [UInt32] = []
  /// UTF-8 of adapter names and salts.
  package var text: [UInt8] = []
  /// Events of a known kind without usable fields.
  package var malformedEvents = 0
  /// One of those may have been a removal: blocks may be gone that nothing here names.
  package var hidesRemovals = false
  /// Events that are not for a mirror of the prefix cache: of another KV cache group, or of a medium nobody knows.
  package var skippedEvents = 0
  /// Events of a kind that is not known here.
  package var unknownEvents = 0
  /// The message as the engine sent it, for those who pass it on; empty unless the feed was told to keep it.
  package var payload: [UInt8] = []

  /// An empty batch.
  package init() {}

  /// The hashes of `event`.
  package func hashes(of event: CacheEvent) -> ArraySlice<UInt64> { hashes[event.hashes] }

  /// The tokens of `event`.
  package func tokens(of event: CacheEvent) -> ArraySlice<UInt32> { tokens[event.tokens] }

  /// Adapter name or salt at `range`.
  package func text(at range: Range<Int>) -> String { String(decoding: text[range], as: UTF8.self) }

  /// Empties the batch and keeps its memory.
  mutating func removeAll() {
    timestamp = 0
    rank = nil
    events.removeAll(keepingCapacity: true)
    hashes.removeAll(keepingCapacity: true)
    tokens.removeAll(keepingCapacity: true)
    text.removeAll(keepingCapacity: true)
    malformedEvents = 0
    hidesRemovals = false
    skippedEvents = 0
    unknownEvents = 0
    payload = []
  }
}

/// Bounds of one batch. The largest real ones carry one scheduler step: 64 Ki tokens and their blocks.
package struct CacheEventLimits: Sendable, Equatable {
  /// Events in a batch.
  package var eventsMax = 65_536
  /// Block hashes in a batch.
  package var hashesMax = 262_144
  /// Tokens in a batch.
  package var tokensMax = 1_048_576

  /// The defaults.
  package init() {}
}
