// Where the router's knowledge of a worker's cache comes from, and in what pieces it arrives.

/// What the cached blocks of a worker are counted by.
package enum CacheSource: UInt8, Sendable, BitwiseCopyable {
  /// What the router itself sent there.
  case predicted
  /// What the engine's events say.
  case events

  /// The word for spans, metrics and `/health`.
  package var label: String {
    switch self {
    case .predicted: "predicted"
    case .events: "events"
    }
  }
}

/// Why a worker has its present source.
package enum CacheSourceReason: UInt8, Sendable, BitwiseCopyable {
  /// The worker has no feed of events.
  case noFeed
  /// The feed is complete since its beginning or since a snapshot.
  case feedLive
  /// The connection to the feed broke.
  case feedLost
  /// Events are missing and could not be replayed: predictions count beside those that came.
  case feedGap
  /// A feed that began anew again and again is left alone for a while: of what is missing the same holds.
  case feedResting
  /// The engine's blocks have another size than the model's.
  case blockSize
  /// The worker has more blocks than its mirror may hold, or the index has no room for them.
  case overflow
  /// What the engine reports of its hits contradicts the events.
  case drift
  /// The engine names an address of its events that is not on its worker's host.
  case foreignEndpoint
  /// The engine's events count in bytes and this process in tokens, or the other way round.
  case otherUnit
  /// libzmq cannot be loaded.
  case noLibrary
  /// The operator's choice.
  case configured

  /// True when part of the cache is unknown: what the router sent there counts beside the events.
  var leavesHoles: Bool {
    switch self {
    case .feedGap, .feedResting: true
    default: false
    }
  }

  /// The word for logs and `/health`.
  package var label: String {
    switch self {
    case .noFeed: "no_feed"
    case .feedLive: "feed_live"
    case .feedLost: "feed_lost"
    case .feedGap: "feed_gap"
    case .feedResting: "feed_resting"
    case .blockSize: "block_size"
    case .overflow: "overflow"
    case .drift: "drift"
    case .foreignEndpoint: "foreign_endpoint"
    case .otherUnit: "other_unit"
    case .noLibrary: "no_library"
    case .configured: "configured"
    }
  }
}

/// Where a worker holds a block.
package enum CacheTier: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case device
  case host
  case disk
}

/// One change of a worker's cache, in our hashes. Operations of a worker must be applied in their order.
package struct CacheOperation: Sendable, Equatable, BitwiseCopyable {
  /// What happened to the block.
  package enum Kind: UInt8, Sendable, BitwiseCopyable {
    case stored
    case removed
    /// All blocks of all tiers are gone; the hash means nothing.
    case cleared
  }

  /// The block's chained hash.
  package let hash: UInt64
  package let kind: Kind
  package let tier: CacheTier

  package init(_ kind: Kind, hash: UInt64 = 0, tier: CacheTier = .device) {
    self.hash = hash
    self.kind = kind
    self.tier = tier
  }
}
