// Engine events become operations on our hashes, whatever the engine names its blocks.

import Base
import Testing

@testable import Routing

/// Tokens of a prompt's block: any number names one content.
func blockTokens(_ content: UInt32, size: Int = 4) -> [UInt32] {
  (0..<UInt32(size)).map { content &* 1000 &+ $0 }
}

/// The chain that a prompt of such blocks has.
func chainOfTokens(_ contents: [UInt32], size: Int = 4, seed: UInt64 = PromptBlocks.seed) -> [UInt64] {
  var blocks = PromptBlocks()
  let tokens = contents.flatMap { blockTokens($0, size: size) }
  tokens.withUnsafeBufferPointer { blocks.hash(tokens: $0, blockSize: size, seed: seed) }
  return Array(blocks.chain)
}

/// A mirror with arrays for buffers; what `#expect` cannot ask a noncopyable mirror itself.
final class MirrorRig {
  var mirror: CacheMirror

  init(blocksMax: Int = 1 << 20) { mirror = CacheMirror(blockSize: 4, blocksMax: blocksMax) }

  var counts: CacheMirrorCounts { mirror.counts }
  var count: Int { mirror.count }
  var bytes: Int { mirror.bytes }
  var isIncomplete: Bool { mirror.isIncomplete }
  func takeOperations() -> [CacheOperation] { mirror.takeOperations() }
  func cleared() { mirror.cleared() }
  func cleared(rank: Int) { mirror.cleared(rank: rank) }

  func store(
    _ hashes: [UInt64], after parent: UInt64? = nil, _ contents: [UInt32], size: Int = 4,
    tier: CacheTier = .device, seed: UInt64 = PromptBlocks.seed, rank: Int = 0
  ) {
    let tokens = contents.flatMap { blockTokens($0, size: size) }
    store(hashes, after: parent, tokens: tokens, size: size, tier: tier, seed: seed, rank: rank)
  }

  func store(
    _ hashes: [UInt64], after parent: UInt64? = nil, tokens: [UInt32], size: Int = 4,
    tier: CacheTier = .device, seed: UInt64 = PromptBlocks.seed, rank: Int = 0
  ) {
    hashes.withUnsafeBufferPointer { hashes in
      tokens.withUnsafeBufferPointer { tokens in
        mirror.stored(
          StoredBlocks(
            hashes: hashes, parent: parent, tokens: tokens, blockSize: size, tier: tier, seed: seed,
            rank: rank))
      }
    }
  }

  func remove(_ hashes: [UInt64], tier: CacheTier = .device, rank: Int = 0) {
    hashes.withUnsafeBufferPointer { mirror.removed($0, tier: tier, rank: rank) }
  }
}

private func added(_ hashes: [UInt64], tier: CacheTier = .device) -> [CacheOperation] {
  hashes.map { CacheOperation(.stored, hash: $0, tier: tier) }
}

private func dropped(_ hashes: [UInt64], tier: CacheTier = .device) -> [CacheOperation] {
  hashes.map { CacheOperation(.removed, hash: $0, tier: tier) }
}

@Suite struct CacheMirrors {
  @Test func storedBlocksGetTheHashesThatPromptsHave() {
    let mirror = MirrorRig()
    let chain = chainOfTokens([7, 8, 9])
    mirror.store([100, 101], [7, 8])
    mirror.store([102], after: 101, [9])
    #expect(mirror.takeOperations() == added(chain))
    #expect(mirror.takeOperations() == [])
    mirror.remove([102, 100])
    #expect(mirror.takeOperations() == dropped([chain[2], chain[0]]))
    #expect(mirror.count == 1)
  }

  @Test func adapterSeedsKeepBlocksApart() {
    let mirror = MirrorRig()
    let seed = Array("my-lora".utf8).withUnsafeBytes {
      PromptBlocks.seed(adapter: $0, salt: UnsafeRawBufferPointer(start: nil, count: 0))
    }
    mirror.store([1, 2], [7, 8], seed: seed)
    #expect(mirror.takeOperations() == added(chainOfTokens([7, 8], seed: seed)))
    #expect(chainOfTokens([7, 8], seed: seed) != chainOfTokens([7, 8]))
  }

  @Test func unknownParentsAndBlocksAreCounted() {
    let mirror = MirrorRig()
    mirror.store([5], after: 4, [1])
    mirror.remove([5, 6])
    #expect(mirror.counts.parentsNotFound == 1)
    #expect(mirror.counts.blocksNotFound == 2)
    #expect(mirror.takeOperations() == [])
    // A removed parent is unknown again.
    mirror.store([1], [1])
    mirror.remove([1])
    mirror.store([2], after: 1, [2])
    #expect(mirror.counts.parentsNotFound == 2)
  }

  @Test func oddEventsAreRefusedAndCounted() {
    let mirror = MirrorRig()
    mirror.store([1], [1], size: 8)
    #expect(mirror.counts.wrongBlockSizes == 1)
    mirror.store([1], tokens: blockTokens(1) + [9])
    mirror.store([], tokens: blockTokens(1))
    mirror.store([1, 2], [1])
    #expect(mirror.counts.malformed == 3)
    #expect(mirror.takeOperations() == [])
  }

  @Test func blockUnderTwoEngineHashesStaysUntilBothAreGone() {
    let mirror = MirrorRig()
    let chain = chainOfTokens([7])
    mirror.store([100], [7])
    mirror.store([200], [7])
    #expect(mirror.takeOperations() == added(chain))
    mirror.remove([100])
    #expect(mirror.takeOperations() == [])
    mirror.remove([200])
    #expect(mirror.takeOperations() == dropped(chain))
  }

  @Test func hashStoredTwiceIsHeldOnce() {
    let mirror = MirrorRig()
    mirror.store([100], [7])
    mirror.store([100], [7])
    mirror.remove([100])
    #expect(mirror.takeOperations() == added(chainOfTokens([7])) + dropped(chainOfTokens([7])))
    #expect(mirror.count == 0)
  }

  @Test func hashGivenToOtherContentLeavesTheOld() {
    let mirror = MirrorRig()
    mirror.store([100], [7])
    mirror.store([100], [8])
    #expect(
      mirror.takeOperations()
        == added(chainOfTokens([7])) + dropped(chainOfTokens([7])) + added(chainOfTokens([8])))
  }

  @Test func tiersAreHeldApartAndCopiesNeedNoTokens() {
    let mirror = MirrorRig()
    let chain = chainOfTokens([7, 8])
    mirror.store([100, 101], [7, 8])
    mirror.store([100, 101, 999], [], tier: .host)
    #expect(mirror.counts.blocksNotFound == 1)
    mirror.remove([101, 100])
    #expect(
      mirror.takeOperations() == added(chain) + added(chain, tier: .host) + dropped(chain.reversed()))
    // Still on the host, so known as a parent.
    mirror.store([102], after: 101, [9])
    #expect(mirror.counts.parentsNotFound == 0)
    mirror.remove([100], tier: .disk)
    #expect(mirror.counts.blocksNotFound == 2)
    mirror.remove([100], tier: .host)
    #expect(mirror.count == 2)
  }

  @Test func boundIsKeptAndTold() {
    let mirror = MirrorRig(blocksMax: 3)
    mirror.store([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    #expect(mirror.count == 3)
    #expect(mirror.isIncomplete)
    #expect(mirror.counts.refused == 1)
    #expect(mirror.takeOperations() == added(Array(chainOfTokens([1, 2, 3, 4, 5])[..<3])))
    // What is known is not refused.
    mirror.store([1], [1], tier: .host)
    #expect(mirror.takeOperations().count == 1)
    mirror.cleared()
    #expect(!mirror.isIncomplete)
    mirror.store([4], [4])
    #expect(mirror.takeOperations() == [CacheOperation(.cleared)] + added(chainOfTokens([4])))
  }

  @Test func holdersOfOneBlockAreBounded() {
    let mirror = MirrorRig()
    for hash in 0..<1100 { mirror.store([UInt64(hash)], [7]) }
    #expect(mirror.isIncomplete)
    #expect(mirror.counts.refused == 1100 - 1023)
    mirror.remove((0..<1023).map { UInt64($0) })
    #expect(mirror.takeOperations() == added(chainOfTokens([7])) + dropped(chainOfTokens([7])))
    #expect(mirror.bytes == 0)
  }

  @Test func clearGivesMemoryBackAndVoidsWhatWaits() {
    let mirror = MirrorRig()
    for block in 0..<5000 { mirror.store([UInt64(block)], [UInt32(block)]) }
    #expect(mirror.bytes > 100_000)
    mirror.cleared()
    #expect(mirror.bytes == 0)
    #expect(mirror.count == 0)
    #expect(mirror.takeOperations() == [CacheOperation(.cleared)])
    #expect(mirror.counts.cleared == 1)
  }

  @Test func removalsGiveMemoryBackToo() {
    let mirror = MirrorRig()
    for block in 0..<5000 { mirror.store([UInt64(block) << 40], [UInt32(block)]) }
    let full = mirror.bytes
    for block in 0..<4900 { mirror.remove([UInt64(block) << 40]) }
    #expect(mirror.bytes < full / 8)
    for block in 4900..<5000 { mirror.remove([UInt64(block) << 40]) }
    #expect(mirror.bytes == 0)
    #expect(mirror.counts.blocksNotFound == 0)
  }
}

@Suite struct MirroredRanks {
  private let chain = chainOfTokens([1, 2, 3])

  @Test func aBlockIsHeldWhileAnyRankHoldsIt() {
    let rig = MirrorRig()
    // The ranks name equal content by equal hashes.
    rig.store([11, 12], [1, 2])
    rig.store([11, 12], [1, 2], rank: 1)
    #expect(rig.takeOperations() == chain[..<2].map { CacheOperation(.stored, hash: $0) })
    rig.remove([12])
    rig.remove([12])
    #expect(rig.takeOperations() == [] && rig.counts.blocksNotFound == 1)
    rig.remove([12], rank: 1)
    #expect(rig.takeOperations() == [CacheOperation(.removed, hash: chain[1])])
    #expect(rig.mirror.holds(11, rank: 1) && !rig.mirror.holds(12, rank: 1) && !rig.mirror.holds(11, rank: 2))
    rig.remove([11], rank: 7)
    #expect(rig.counts.blocksNotFound == 2)
  }

  @Test func aRankThatIsClearedTakesOnlyItsOwn() {
    let rig = MirrorRig()
    rig.store([11, 12], [1, 2])
    rig.store([11], [1], rank: 1)
    rig.store([12], after: 11, [2], tier: .host, rank: 1)
    rig.store([13], after: 12, [3], rank: 1)
    _ = rig.takeOperations()
    rig.cleared(rank: 1)
    // What rank 0 has on its device stays; the host's copy was rank 1's alone.
    #expect(
      Set(rig.takeOperations().map(\.described)) == [
        CacheOperation(.removed, hash: chain[1], tier: .host).described,
        CacheOperation(.removed, hash: chain[2]).described,
      ])
    #expect(rig.count == 2)
    // Its later blocks begin anew: a parent from before is not known.
    rig.store([14], after: 12, [4], rank: 1)
    #expect(rig.counts.parentsNotFound == 1)
    rig.cleared(rank: 5)
    #expect(rig.takeOperations() == [])
    rig.cleared(rank: 0)
    #expect(rig.takeOperations() == [CacheOperation(.cleared)])
    #expect(rig.count == 0 && rig.bytes == 0)
  }

  @Test func whatIsHeldCanBeToldAgain() {
    let rig = MirrorRig()
    rig.store([11, 12, 13], [1, 2, 3])
    rig.store([11], [1], rank: 1)
    rig.store([12], after: 11, [2], tier: .host, rank: 1)
    rig.remove([13])
    _ = rig.takeOperations()
    rig.store([14], after: 12, [4])
    rig.mirror.tellAgain()
    let told = rig.takeOperations()
    #expect(told.first == CacheOperation(.cleared))
    let four = chainOfTokens([1, 2, 4])[2]
    #expect(
      Set(told.dropFirst().map(\.described)) == [
        CacheOperation(.stored, hash: chain[0]).described, CacheOperation(.stored, hash: chain[1]).described,
        CacheOperation(.stored, hash: chain[1], tier: .host).described,
        CacheOperation(.stored, hash: four).described,
      ])
    #expect(told.count == 5)
    // Later changes follow on it.
    rig.remove([12], tier: .host, rank: 1)
    #expect(rig.takeOperations() == [CacheOperation(.removed, hash: chain[1], tier: .host)])
    rig.cleared()
    rig.mirror.tellAgain()
    #expect(rig.takeOperations() == [CacheOperation(.cleared)])
  }

  @Test func aRankThatHoldsNothingForWantOfRoomStaysIncomplete() {
    let rig = MirrorRig(blocksMax: 2)
    rig.store([1, 2], [1, 2])
    rig.store([3], [3], rank: 1)
    #expect(rig.isIncomplete)
    // All that is held is rank 0's; what rank 1 lacks is still lacking.
    rig.cleared(rank: 0)
    #expect(rig.count == 0 && rig.isIncomplete)
    rig.cleared(rank: 1)
    #expect(!rig.isIncomplete)
  }

  @Test func theBoundIsOfAllRanksTogether() {
    let rig = MirrorRig(blocksMax: 3)
    rig.store([1, 2], [1, 2])
    rig.store([3, 4], [3, 4], rank: 1)
    #expect(rig.isIncomplete && rig.count == 3 && rig.counts.refused == 1)
    rig.cleared(rank: 0)
    #expect(rig.isIncomplete)
    rig.cleared(rank: 1)
    #expect(!rig.isIncomplete)
  }
}

extension CacheOperation {
  /// To be put into a set.
  fileprivate var described: String { "\(kind) \(hash) \(tier)" }
}
