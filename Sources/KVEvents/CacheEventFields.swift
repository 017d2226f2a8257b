// The fields of one cache event, in whatever order and form the engine's release writes them.

internal import Base

/// Gathers the fields of one event from either form, then makes the event of them.
struct CacheEventFields {
  /// What became of the event.
  enum Outcome {
    case use(CacheEvent)
    case skipped, unknown, malformed
  }

  /// What a field means; others are passed over.
  enum Field {
    case tag, hashes, parent, tokens, blockSize, adapterID, medium, adapterOrMetadata, adapterName, extraKeys
    case group, groupKind, locality, salt, ignored
  }

  private enum Tag { case stored, removed, cleared, unknown }

  /// Positional fields behind the tag (vLLM 0.9 to 0.23; SGLang's end at the medium, or with a map at 6).
  private static let storedOrder: [Field] = [
    .hashes, .parent, .tokens, .blockSize, .adapterID, .medium, .adapterOrMetadata, .extraKeys, .group,
    .groupKind,
    .ignored, .locality,
  ]
  private static let removedOrder: [Field] = [.hashes, .medium, .group, .locality]

  private let hashesMax: Int
  private let tokensMax: Int
  /// True when the limits of the batch were hit, and not the event's own rules.
  private(set) var isTooLarge = false

  private var tag: Tag?
  private var hashes: Range<Int>?
  private var tokens: Range<Int>?
  private var parent: UInt64?
  private var blockSize: UInt64?
  private var isBigram = false
  private var hasAdapterID = false
  private var adapter: UnsafeRawBufferPointer?
  private var salt: UnsafeRawBufferPointer?
  /// Where the extra keys stand: what they mean depends on fields that may follow.
  private var extraKeys: MessagePackReader?
  private var tier: CacheTier? = .device
  private var isRemote = false
  private var group: UInt64?
  private var isFollowedKind: Bool?

  init(hashesMax: Int, tokensMax: Int) {
    self.hashesMax = hashesMax
    self.tokensMax = tokensMax
  }

  /// True when the event is of a group whose blocks say what prefixes are cached; learns kinds in `unfollowed`, a bit a
  /// group. A kind that is not named leaves group 0: without it (vLLM 0.20) one group must do.
  func isFollowed(_ unfollowed: inout UInt64) -> Bool {
    let bit: UInt64 = group.map { $0 < 64 ? 1 << $0 : 0 } ?? 0
    switch tag {
    case .stored:
      let isFollowed = isFollowedKind ?? ((group ?? 0) == 0)
      if isFollowed { unfollowed &= ~bit } else { unfollowed |= bit }
      return isFollowed
    case .removed: return unfollowed & bit == 0
    default: return true
    }
  }

  /// Nothing in what was read so far says that the event takes no blocks away.
  var mayRemove: Bool {
    switch tag {
    case .stored, .unknown: false
    case .removed, .cleared, nil: true
    }
  }

  /// Reads one event and what it needs of `batch`: its hashes, tokens and texts are appended there.
  mutating func read(
    _ reader: inout MessagePackReader, into batch: inout CacheEventBatch
  ) throws(MessagePackError) -> Outcome {
    if try reader.peek() == .map {
      let count = try reader.mapCount()
      for _ in 0..<count {
        let key = try reader.text()
        try read(Self.field(named: key), &reader, into: &batch)
      }
    } else {
      let count = try reader.arrayCount()
      guard count > 0 else { return .malformed }
      try read(.tag, &reader, into: &batch)
      let order = tag == .stored ? Self.storedOrder : tag == .removed ? Self.removedOrder : []
      for index in 0..<count - 1 {
        try read(index < order.count ? order[index] : .ignored, &reader, into: &batch)
      }
    }
    switch tag {
    case .stored: return try stored(into: &batch)
    case .removed: return removed()
    case .cleared: return .use(CacheEvent(kind: .cleared))
    case .unknown: return .unknown
    case nil: return .malformed
    }
  }

  private static func field(named key: UnsafeRawBufferPointer) -> Field {
    if key.equals("type") { return .tag }
    if key.equals("block_hashes") { return .hashes }
    if key.equals("parent_block_hash") { return .parent }
    if key.equals("token_ids") { return .tokens }
    if key.equals("block_size") { return .blockSize }
    if key.equals("lora_id") { return .adapterID }
    if key.equals("medium") { return .medium }
    if key.equals("lora_name") { return .adapterName }
    if key.equals("extra_keys") { return .extraKeys }
    if key.equals("group_idx") { return .group }
    if key.equals("kv_cache_spec_kind") { return .groupKind }
    if key.equals("locality") { return .locality }
    if key.equals("cache_salt") { return .salt }
    return .ignored
  }

  private mutating func read(
    _ field: Field, _ reader: inout MessagePackReader, into batch: inout CacheEventBatch
  ) throws(MessagePackError) {
    switch field {
    case .ignored:
      try reader.skip()
      return
    case .extraKeys:
      let start = reader
      try reader.skip()
      extraKeys = start
      return
    default:
      if try reader.takeNil() { return }
    }
    switch field {
    case .tag: tag = Self.tag(try reader.text())
    case .hashes: try readHashes(&reader, into: &batch)
    case .parent: parent = try Self.hash(&reader)
    case .tokens: try readTokens(&reader, into: &batch)
    case .blockSize: blockSize = try reader.unsigned()
    case .adapterID:
      hasAdapterID = true
      try reader.skip()
    case .medium: tier = Self.tier(try reader.text())
    case .adapterName: adapter = try reader.text()
    case .adapterOrMetadata:
      if try reader.peek() == .map {
        try readMetadata(&reader)
      } else {
        adapter = try reader.text()
      }
    case .group: group = try reader.unsigned()
    case .groupKind:
      let kind = try reader.text()
      // Kinds of vLLM whose blocks hold every token of the prefix.
      isFollowedKind =
        kind.equals("full_attention") || kind.equals("mla_attention") || kind.equals("sink_full_attention")
    case .locality: isRemote = try reader.text().equalsIgnoringCase("remote")
    case .salt: salt = try reader.text()
    case .extraKeys, .ignored: break
    }
  }

  private static func tag(_ text: UnsafeRawBufferPointer) -> Tag {
    if text.equals("BlockStored") { return .stored }
    if text.equals("BlockRemoved") { return .removed }
    if text.equals("AllBlocksCleared") { return .cleared }
    return .unknown
  }

  /// Dynamo's table of media; nil for one that it does not have.
  private static func tier(_ medium: UnsafeRawBufferPointer) -> CacheTier? {
    let device: [StaticString] = ["gpu", "device"]
    let host: [StaticString] = ["cpu", "cpu_pinned", "cpu_tier1"]
    let disk: [StaticString] = ["cpu_tier2", "disk", "nvme", "storage"]
    let external: [StaticString] = ["external", "network", "remote", "shared"]
    if device.contains(where: { medium.equalsIgnoringCase($0) }) { return .device }
    if host.contains(where: { medium.equalsIgnoringCase($0) }) { return .host }
    if disk.contains(where: { medium.equalsIgnoringCase($0) }) { return .disk }
    if external.contains(where: { medium.equalsIgnoringCase($0) }) { return .external }
    return nil
  }

  /// SGLang 0.5.18 sends a map behind the medium when the request had a salt.
  private mutating func readMetadata(_ reader: inout MessagePackReader) throws(MessagePackError) {
    for _ in 0..<(try reader.mapCount()) {
      if try reader.text().equals("cache_salt") {
        if !(try reader.takeNil()) { salt = try reader.text() }
      } else {
        try reader.skip()
      }
    }
  }

  /// A block's hash: an integer of either sign by its bits, or the last eight bytes of a digest, big-endian.
  private static func hash(_ reader: inout MessagePackReader) throws(MessagePackError) -> UInt64 {
    guard try reader.peek() == .binary else { return try reader.integerBits().bits }
    let digest = try reader.binary()
    guard !digest.isEmpty else { throw .otherType }
    return digest.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private mutating func readHashes(
    _ reader: inout MessagePackReader, into batch: inout CacheEventBatch
  ) throws(MessagePackError) {
    guard hashes == nil else { throw .otherType }
    let count = try reader.arrayCount()
    let start = batch.hashes.count
    guard count <= hashesMax - start else { throw tooLarge() }
    batch.hashes.reserveCapacity(start + count)
    for _ in 0..<count { batch.hashes.append(try Self.hash(&reader)) }
    hashes = start..<start + count
  }

  private mutating func readTokens(
    _ reader: inout MessagePackReader, into batch: inout CacheEventBatch
  ) throws(MessagePackError) {
    guard tokens == nil else { throw .otherType }
    let count = try reader.arrayCount()
    let start = batch.tokens.count
    guard count <= tokensMax - start else { throw tooLarge() }
    batch.tokens.reserveCapacity(start + count)
    if count > 0, try reader.peek() == .array {
      isBigram = true
      for _ in 0..<count {
        guard try reader.arrayCount() == 2 else { throw .otherType }
        batch.tokens.append(try reader.unsigned32())
        _ = try reader.unsigned32()
      }
    } else {
      batch.tokens.append(contentsOf: repeatElement(0, count: count))
      try batch.tokens.withUnsafeMutableBufferPointer { tokens throws(MessagePackError) in
        try reader.unsigned32s(into: UnsafeMutableBufferPointer(rebasing: tokens[start...]))
      }
    }
    tokens = start..<start + count
  }

  private mutating func tooLarge() -> MessagePackError {
    isTooLarge = true
    return .outOfRange
  }
}

extension CacheEventFields {
  private var place: CacheTier? { isRemote ? .external : tier }

  private func removed() -> Outcome {
    guard let hashes else { return .malformed }
    guard let place else { return .skipped }
    return .use(CacheEvent(kind: .removed, tier: place, hashes: hashes))
  }

  private mutating func stored(into batch: inout CacheEventBatch) throws(MessagePackError) -> Outcome {
    guard let hashes, let tokens, let blockSize, blockSize > 0 else { return .malformed }
    // Groups that are not followed, such as sliding windows, store fewer hashes than tokens would give.
    guard let place, isFollowedKind != false else { return .skipped }
    // No product: a block size may be anything that fits 64 bits.
    guard hashes.count > 0, tokens.count % hashes.count == 0,
      UInt64(tokens.count / hashes.count) == blockSize
    else { return .malformed }
    var event = CacheEvent(kind: .stored, tier: place, hashes: hashes, tokens: tokens, parent: parent)
    event.blockSize = Int(blockSize)
    event.isBigram = isBigram
    event.hashableBlocks = hashes.count
    // Before vLLM 0.14 an adapter has only a number, which means nothing to a router.
    if hasAdapterID, adapter == nil { event.hashableBlocks = 0 }
    if var keys = extraKeys { event.hashableBlocks = min(event.hashableBlocks, try readExtraKeys(&keys)) }
    event.adapter = Self.keep(adapter, in: &batch)
    event.salt = Self.keep(salt, in: &batch)
    return .use(event)
  }

  private static func keep(_ text: UnsafeRawBufferPointer?, in batch: inout CacheEventBatch) -> Range<Int> {
    let start = batch.text.count
    if let text { batch.text.append(contentsOf: text) }
    return start..<batch.text.count
  }

  /// Reads vLLM's extra keys, a list or nil for each block: the adapter's name on every block, the salt on a prompt's
  /// first. Returns the number of leading blocks that have no others.
  private mutating func readExtraKeys(_ reader: inout MessagePackReader) throws(MessagePackError) -> Int {
    if try reader.takeNil() { return Int.max }
    let blocks = try reader.arrayCount()
    for block in 0..<blocks {
      if try reader.takeNil() { continue }
      let keys = try reader.arrayCount()
      for key in 0..<keys {
        // An image's key is text as well in some releases. It is taken for the salt only where it stands alone on a
        // prompt's first block: then it names a cache that no request with tokens alone will ask for.
        guard try reader.peek() == .text else { return block }
        let text = try reader.text()
        if key == 0, let adapter, text.equals(adapter) { continue }
        guard block == 0, parent == nil, key == keys - 1, salt == nil || salt.map(text.equals) == true else {
          return block
        }
        salt = text
      }
    }
    return Int.max
  }
}
