// The rules of decoding that no single capture shows: groups, media, extra keys, SGLang's forms, and what is refused.

import Base
import Testing

@testable import KVEvents

/// A value to be written as MessagePack.
indirect enum Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral,
  ExpressibleByArrayLiteral
{
  case none
  case integer(UInt64)
  case negative(Int8)
  case text(String)
  case bytes([UInt8])
  case array([Value])
  case map([(String, Value)])
  case raw([UInt8])

  init(stringLiteral value: String) { self = .text(value) }
  init(integerLiteral value: UInt64) { self = .integer(value) }
  init(nilLiteral: ()) { self = .none }
  init(arrayLiteral elements: Value...) { self = .array(elements) }

  func write(to out: inout ByteBuffer) {
    switch self {
    case .none: MessagePackWriter.none(to: &out)
    case .integer(let value): MessagePackWriter.unsigned(value, to: &out)
    case .negative(let value): out.append([0xd0, UInt8(bitPattern: value)])
    case .text(let text): MessagePackWriter.text(text, to: &out)
    case .bytes(let bytes): MessagePackWriter.binary(bytes, to: &out)
    case .array(let values):
      MessagePackWriter.array(values.count, to: &out)
      for value in values { value.write(to: &out) }
    case .map(let pairs):
      MessagePackWriter.map(pairs.count, to: &out)
      for (key, value) in pairs {
        MessagePackWriter.text(key, to: &out)
        value.write(to: &out)
      }
    case .raw(let bytes): out.append(bytes)
    }
  }

  var encoded: [UInt8] {
    var out = ByteBuffer()
    write(to: &out)
    return out.bytes
  }

  /// A batch of `events` at second 1 of rank 0.
  static func batch(_ events: Value...) -> [UInt8] { Value.array([1, .array(events), 0]).encoded }

  /// A BlockStored map of blocks of 2 tokens, with `fields` besides.
  static func stored(_ hashes: [UInt64] = [7], parent: UInt64? = nil, fields: [(String, Value)] = []) -> Value
  {
    .map(
      [
        ("type", "BlockStored"), ("block_hashes", .array(hashes.map { .integer($0) })),
        ("parent_block_hash", parent.map { .integer($0) } ?? nil),
        ("token_ids", .array(hashes.indices.flatMap { [.integer(UInt64($0)), 9] })), ("block_size", 2),
      ] + fields)
  }

  /// A BlockRemoved map with `fields` besides.
  static func removed(_ hashes: [UInt64] = [7], _ fields: [(String, Value)] = []) -> Value {
    .map([("type", "BlockRemoved"), ("block_hashes", .array(hashes.map { .integer($0) }))] + fields)
  }
}

@Suite struct EventRuleTests {
  private func event(_ value: Value) throws -> (CacheEvent, CacheEventBatch) {
    let batch = try decode(Value.batch(value)).get()
    return (try #require(batch.events.first), batch)
  }

  @Test(arguments: [
    ("GPU", CacheTier.device), ("gpu", .device), ("DEVICE", .device), ("CPU", .host), ("CPU_PINNED", .host),
    ("CPU_TIER1", .host), ("CPU_TIER2", .disk), ("DISK", .disk), ("NVME", .disk), ("STORAGE", .disk),
    ("EXTERNAL", .external), ("NETWORK", .external), ("REMOTE", .external), ("SHARED", .external),
  ])
  func mediaAreTiers(_ medium: String, _ tier: CacheTier) throws {
    #expect(try event(.stored([7], fields: [("medium", .text(medium))])).0.tier == tier)
    #expect(try event(.removed([7], [("medium", .text(medium))])).0.tier == tier)
    #expect(try event(["BlockRemoved", [7], .text(medium)]).0.tier == tier)
  }

  @Test func anotherMediumIsSkippedAndAnotherPlaceIsExternal() throws {
    let batch = try decode(
      Value.batch(
        .stored([7], fields: [("medium", "TAPE")]), .removed([7], [("medium", "TAPE")]), .removed([8]))
    ).get()
    #expect(batch.skippedEvents == 2)
    #expect(batch.hashes == [8])
    #expect(try event(.stored([7], fields: [("medium", "GPU"), ("locality", "REMOTE")])).0.tier == .external)
    #expect(try event(.stored([7], fields: [("medium", "GPU"), ("locality", "LOCAL")])).0.tier == .device)
  }

  @Test func hashesAreBitsOrTheEndOfADigest() throws {
    let digest = (1...32).map { UInt8($0) }
    let hashes: Value = [.negative(-1), .bytes(digest), .bytes([1, 2]), 5, .raw(hex("d3 8000000000000000"))]
    let (event, batch) = try event(["BlockRemoved", hashes])
    #expect(Array(batch.hashes(of: event)) == [.max, 0x191a_1b1c_1d1e_1f20, 0x0102, 5, 1 << 63])
    #expect(try decode(Value.batch(["BlockRemoved", [.bytes([])]])).get().malformedEvents == 1)
    #expect(try decode(Value.batch(["BlockRemoved", ["7"]])).get().malformedEvents == 1)
  }

  @Test func onlyWholePrefixGroupsAreFollowed() throws {
    func kind(_ kind: String, _ group: UInt64) -> [(String, Value)] {
      [("group_idx", .integer(group)), ("kv_cache_spec_kind", .text(kind))]
    }
    var decoder = CacheEventDecoder()
    let first = try decode(
      Value.batch(
        .stored([1], fields: kind("sliding_window", 0)), .stored([2], fields: kind("full_attention", 1)),
        .stored([3], fields: kind("mla_attention", 2)), .stored([4], fields: kind("mamba", 3)), .stored([5])),
      with: &decoder
    ).get()
    #expect(first.hashes == [2, 3, 5])
    #expect(first.skippedEvents == 2)
    // Removals name no kind: the stores taught it.
    let removals = Value.batch(
      .removed([1], [("group_idx", 0)]), .removed([2], [("group_idx", 1)]), .removed([4], [("group_idx", 3)]),
      .removed([6], [("group_idx", 900)]), .removed([5]))
    let second = try decode(removals, with: &decoder).get()
    #expect(second.hashes == [2, 6, 5])
    #expect(second.skippedEvents == 2)
    decoder.engineRestarted()
    #expect(try decode(removals, with: &decoder).get().skippedEvents == 0)
  }

  @Test func withoutKindsGroupZeroIsFollowed() throws {
    var decoder = CacheEventDecoder()
    let batch = try decode(
      Value.batch(
        .stored([1], fields: [("group_idx", 0)]), .stored([1], fields: [("group_idx", 1)]),
        .removed([1], [("group_idx", 1)]),
        .removed([2], [("group_idx", 0)])),
      with: &decoder
    ).get()
    #expect(batch.hashes == [1, 2])
    #expect(batch.skippedEvents == 2)
  }

  /// A sliding window's store has fewer hashes than blocks: no fault, and not for us.
  @Test func storesOfWindowsNeedNotAddUp() throws {
    let window = Value.map([
      ("type", "BlockStored"), ("block_hashes", []), ("parent_block_hash", nil), ("token_ids", [1, 2, 3, 4]),
      ("block_size", 2), ("group_idx", 1), ("kv_cache_spec_kind", "sliding_window"),
    ])
    let batch = try decode(Value.batch(window, .stored())).get()
    #expect(batch.skippedEvents == 1 && batch.malformedEvents == 0)
    #expect(batch.hashes == [7] && batch.tokens == [0, 9])
  }

  @Test func saltIsAnExtraKeyOfTheFirstBlockAlone() throws {
    let (event, batch) = try event(
      .stored([1, 2], fields: [("lora_name", "a"), ("extra_keys", [["a", "s"], ["a"]])]))
    #expect(batch.text(at: event.adapter) == "a" && batch.text(at: event.salt) == "s")
    #expect(event.hashableBlocks == 2)
  }

  static let extraKeys: [(Value, Int)] = {
    var list: [(Value, Int)] = []
    list.append(([[["offset", 3]], nil, nil], 0))
    list.append(([nil, ["image"], nil], 1))
    list.append(([["image", "salt"], nil, nil], 0))
    list.append(([nil, nil, [.bytes([1])]], 2))
    list.append(([nil, nil, nil], 3))
    list.append(([], 3))
    list.append(([[], [], []], 3))
    list.append(([["s"], ["image"], nil], 1))
    return list
  }()

  @Test(arguments: extraKeys.indices)
  func otherExtraKeysEndWhatTokensCanName(_ index: Int) throws {
    let (keys, blocks) = Self.extraKeys[index]
    let (event, batch) = try event(.stored([1, 2, 3], fields: [("extra_keys", keys)]))
    #expect(event.hashableBlocks == blocks)
    #expect(event.hashes.count == 3 && batch.tokens.count == 6)
  }

  @Test func aChildsOwnKeyIsNoSalt() throws {
    let (event, _) = try event(.stored([1, 2], parent: 9, fields: [("extra_keys", [["x"], nil])]))
    #expect(event.hashableBlocks == 0 && event.salt.isEmpty)
  }

  @Test func anAdapterWithoutANameCannotBeHashed() throws {
    #expect(try event(.stored([1], fields: [("lora_id", 3)])).0.hashableBlocks == 0)
    #expect(try event(.stored([1], fields: [("lora_id", 3), ("lora_name", "a")])).0.hashableBlocks == 1)
    #expect(try event(.stored([1], fields: [("lora_id", nil)])).0.hashableBlocks == 1)
  }

  @Test func keysComeInAnyOrderAndUnknownOnesArePassedOver() throws {
    let (event, batch) = try event(
      .map([
        ("extra_keys", [["a", "s"]]), ("new", .map([("x", [1, nil])])), ("block_size", 2),
        ("token_ids", [5, 6]),
        ("lora_name", "a"), ("block_hashes", [7]), ("more", .raw(hex("d6 05 01020304"))),
        ("type", "BlockStored"),
      ]))
    #expect(batch.tokens == [5, 6] && batch.text(at: event.salt) == "s" && event.parent == nil)
  }

  /// SGLang: arrays that end at the medium or before, from 0.5.18 with a map for the salt, from 0.5.21 maps.
  @Test func formsOfSGLang() throws {
    let blocks: [Value] = ["BlockStored", [.raw(hex("d3 ffffffffffffff00"))], nil, [1, 2], 2, nil]
    let old = try decode(Value.array([1, [.array(blocks)]]).encoded).get()
    #expect(old.hashes == [0xffff_ffff_ffff_ff00] && old.rank == nil)
    let (event, _) = try event(.array(blocks + ["CPU_PINNED"]))
    #expect(event.tier == .host && event.hashableBlocks == 1)
    let salted = try self.event(.array(blocks + ["GPU", .map([("cache_salt", "t"), ("other", 1)])]))
    #expect(salted.1.text(at: salted.0.salt) == "t" && salted.0.hashableBlocks == 1)
    let mapped = try self.event(
      .stored([1], fields: [("cache_salt", "t"), ("session_id", "u"), ("lora_name", "l")]))
    #expect(mapped.1.text(at: mapped.0.salt) == "t" && mapped.1.text(at: mapped.0.adapter) == "l")
  }

  @Test func pairsOfTokensGiveTheirFirst() throws {
    let (event, batch) = try event(["BlockStored", [7], nil, [[1, 2], [2, 3]], 2, nil, "GPU"])
    #expect(event.isBigram && batch.tokens == [1, 2] && event.hashableBlocks == 1)
    for tokens: Value in [
      [[1, 2], 3], [1, [2, 3]], [[1], [2]], [[1, 2, 3], [2, 3, 4]], [[1, nil], [2, 3]],
    ] {
      #expect(try decode(Value.batch(["BlockStored", [7], nil, tokens, 2, nil])).get().malformedEvents == 1)
    }
  }

  static let broken: [Value] = {
    var list: [Value] = []
    list.append(5)
    list.append([])
    list.append([5])
    list.append([nil])
    list.append(.map([]))
    list.append(.map([("block_hashes", [7])]))
    list.append(["BlockStored"])
    list.append(["BlockStored", [7], nil, [1, 2]])
    list.append(["BlockRemoved"])
    list.append(["BlockRemoved", nil])
    list.append(["BlockRemoved", 7])
    list.append(["BlockStored", [7], nil, [1, 2], 0, nil])
    list.append(["BlockStored", [7], nil, [1, 2, 3], 2, nil])
    list.append(["BlockStored", [7, 8], nil, [1, 2], 2, nil])
    list.append(["BlockStored", [], nil, [], 2, nil])
    list.append(["BlockStored", [], nil, [1, 2], 2, nil])
    list.append(["BlockStored", [7], nil, [.negative(-1), 2], 2, nil])
    list.append(["BlockStored", [7], nil, [.integer(1 << 32), 2], 2, nil])
    list.append(["BlockStored", [7], "p", [1, 2], 2, nil])
    list.append(["BlockStored", [7], nil, [1, 2], "2", nil])
    list.append(["BlockStored", [7], nil, [1, 2], .integer(.max), nil])
    list.append(["BlockStored", [7], nil, [1, 2], 2, nil, 6])
    list.append(.stored([7], fields: [("block_hashes", [8])]))
    list.append(.stored([7], fields: [("token_ids", [1, 2])]))
    list.append(.stored([7], fields: [("extra_keys", 5)]))
    list.append(.stored([7], fields: [("extra_keys", [5])]))
    list.append(.map([("type", "BlockRemoved"), ("block_hashes", [7]), ("group_idx", "x")]))
    list.append(.raw(hex("81 05 c0")))
    return list
  }()

  @Test(arguments: broken.indices)
  func aBrokenEventCostsItselfAlone(_ index: Int) throws {
    let batch = try decode(Value.batch(.removed([1]), Self.broken[index], .removed([2]))).get()
    #expect(batch.malformedEvents == 1)
    #expect(batch.hashes == [1, 2] && batch.tokens.isEmpty && batch.text.isEmpty)
    #expect(batch.events.map(\.hashes) == [0..<1, 1..<2])
  }

  @Test func unknownKindsAreCounted() throws {
    let batch = try decode(
      Value.batch(
        ["BlockMigrated", [7], 3], .map([("type", "BlockMigrated"), ("block_hashes", [7])]), .removed([2]))
    ).get()
    #expect(batch.unknownEvents == 2 && batch.hashes == [2])
  }

  @Test(arguments: [
    "c0", "05", "90", "91 01", "92 c0 90", "92 01 c0", "92 01 05", "93 01 90 a161", "93 01 90 ff",
    "93 01 90 ce00010000",
  ])
  func whatIsNoBatchIsRefused(_ text: String) {
    #expect(decode(hex(text)).failure == .notABatch)
  }

  @Test func batchesMayBeShorterLongerAndCountInIntegers() throws {
    #expect(try decode(hex("92 05 90")).get().timestamp == 5)
    #expect(try decode(hex("93 05 90 c0")).get().rank == nil)
    #expect(try decode(hex("95 05 90 03 a161 c0")).get().rank == 3)
  }

  @Test func boundsHold() {
    var limits = CacheEventLimits()
    limits.eventsMax = 2
    limits.hashesMax = 3
    limits.tokensMax = 4
    let small = Value.batch(.stored([1]), .stored([2]))
    #expect(decode(small, limits: limits).failure == nil)
    #expect(decode(Value.batch(.removed(), .removed(), .removed()), limits: limits).failure == .tooLarge)
    #expect(decode(Value.batch(.removed([1, 2]), .removed([3, 4])), limits: limits).failure == .tooLarge)
    #expect(decode(Value.batch(.stored([1, 2]), .stored([3])), limits: limits).failure == .tooLarge)
  }

  /// A consumer may keep a batch: the next one is read beside it.
  @Test func aKeptBatchStaysAsItIs() throws {
    var decoder = CacheEventDecoder()
    var batch = CacheEventBatch()
    try Value.batch(.stored([1])).withUnsafeBytes { try decoder.decode($0, into: &batch) }
    let kept = batch
    try Value.batch(.stored([2, 3])).withUnsafeBytes { try decoder.decode($0, into: &batch) }
    #expect(kept.hashes == [1] && batch.hashes == [2, 3] && batch.tokens.count == 4)
  }
}
