// Block and chain hashes of tokens and of bytes.

import Base
import Testing

@testable import Routing

@Suite struct PromptHashes {
  private func chain(tokens: [UInt32], blockSize: Int, seed: UInt64 = PromptBlocks.seed) -> [UInt64] {
    var blocks = PromptBlocks()
    tokens.withUnsafeBufferPointer { blocks.hash(tokens: $0, blockSize: blockSize, seed: seed) }
    return Array(blocks.chain)
  }

  @Test func chainsOfTokensMatchDynamo() {
    #expect(
      chain(tokens: Array(1...48), blockSize: 16) == [
        16_863_443_419_780_771_464, 12_466_389_667_045_779_788, 960_926_348_267_535_642,
      ])
    #expect(chain(tokens: [1, 2, 3, 4], blockSize: 4) == [14_643_705_804_678_351_452])
  }

  @Test func adapterAndSaltChangeTheSeedAsInDynamo() {
    func seed(_ adapter: String, _ salt: String) -> UInt64 {
      Array(adapter.utf8).withUnsafeBytes { adapter in
        Array(salt.utf8).withUnsafeBytes { PromptBlocks.seed(adapter: adapter, salt: $0) }
      }
    }
    func first(_ seed: UInt64) -> UInt64? { chain(tokens: [1, 2, 3, 4], blockSize: 4, seed: seed).first }
    #expect(first(seed("my-lora", "")) == 15_671_544_057_904_749_233)
    #expect(first(seed("", "tenant-a")) == 5_738_685_477_468_498_325)
    #expect(first(seed("my-lora", "tenant-a")) == 6_157_910_915_076_630_503)
    #expect(seed("", "") == 1337)
  }

  @Test func theTailIsTheChainsNextHashOverWhatIsLeft() {
    var blocks = PromptBlocks()
    func tail(_ count: UInt32) -> UInt64? {
      let tokens = Array(0..<count)
      return tokens.withUnsafeBufferPointer { tokens in
        blocks.hash(tokens: tokens, blockSize: 16)
        return blocks.tail(of: UnsafeRawBufferPointer(tokens), blockSize: 16, seed: PromptBlocks.seed)
      }
    }
    #expect(tail(0) == nil)
    #expect(tail(16) == nil)
    #expect(tail(32) == nil)
    let rest: [UInt32] = Array(32..<40)
    let local = rest.withUnsafeBytes { XXH3.hash($0, seed: PromptBlocks.seed) }
    let full = chain(tokens: Array(0..<32), blockSize: 16)
    #expect(tail(40) == XXH3.hash16(full[1], local, seed: PromptBlocks.seed))
    // A prompt of one incomplete block has its local hash, as a full first block has.
    #expect(tail(15) == Array(UInt32(0)..<15).withUnsafeBytes { XXH3.hash($0, seed: PromptBlocks.seed) })
  }

  @Test func aChainThatWasCutHasNoTail() {
    var blocks = PromptBlocks(blocksMax: 1)
    let tokens: [UInt32] = Array(0..<40)
    let tail = tokens.withUnsafeBufferPointer { tokens in
      blocks.hash(tokens: tokens, blockSize: 16)
      return blocks.tail(of: UnsafeRawBufferPointer(tokens), blockSize: 16, seed: PromptBlocks.seed)
    }
    #expect(tail == nil)
  }

  @Test func incompleteBlocksAreIgnored() {
    #expect(chain(tokens: Array(0..<40), blockSize: 16).count == 2)
    #expect(chain(tokens: Array(0..<15), blockSize: 16) == [])
    #expect(chain(tokens: [], blockSize: 16) == [])
  }

  @Test(arguments: [1, 2, 15, 16, 17, 32, 64, 128])
  func everyBlockSizeFollowsTheRule(_ blockSize: Int) {
    let bytes = (0..<4 * 300).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    var blocks = PromptBlocks()
    bytes.withUnsafeBytes { blocks.hash(bytes: $0, blockSize: blockSize) }
    var expected: [UInt64] = []
    bytes.withUnsafeBytes { all in
      for start in stride(from: 0, through: all.count - 4 * blockSize, by: 4 * blockSize) {
        let local = XXH3.hash(all.slice(start..<start + 4 * blockSize), seed: 1337)
        expected.append(expected.last.map { XXH3.hash16($0, local, seed: 1337) } ?? local)
      }
    }
    #expect(Array(blocks.chain) == expected)
  }

  @Test func equalPrefixesHaveEqualChains() {
    var changed: [UInt32] = Array(0..<160)
    changed[50] = 999
    let a = chain(tokens: Array(0..<160), blockSize: 16)
    let b = chain(tokens: changed, blockSize: 16)
    #expect(a[..<3] == b[..<3])
    for place in 3..<10 { #expect(a[place] != b[place]) }
  }

  @Test func chainsAreBoundedAndMemoryIsUsedAgain() {
    var blocks = PromptBlocks(blocksMax: 100)
    let long = [UInt8](repeating: 1, count: 64 * 5000)
    long.withUnsafeBytes { blocks.hash(bytes: $0, blockSize: 16) }
    #expect(blocks.count == 100)
    var roomy = PromptBlocks()
    for size in [5000, 10, 0, 600, 5000, 3] {
      long.withUnsafeBytes { roomy.hash(bytes: $0.slice(0..<64 * size), blockSize: 16) }
      #expect(roomy.count == size)
      #expect(roomy.chain.first == (size > 0 ? blocks.chain.first : nil))
    }
    roomy.removeAll()
    #expect(roomy.count == 0)
  }
}

@Suite struct TokenEstimates {
  @Test func factorFollowsReports() {
    var estimate = TokenEstimate()
    #expect(TokenEstimate.quarter(ofBytes: 1001) == 250)
    #expect(estimate.tokens(forBytes: 1000) == 250)
    estimate.observe(bytes: 1000, promptTokens: 200)
    #expect(estimate.tokens(forBytes: 1000) == 200)
    for _ in 0..<400 { estimate.observe(bytes: 1000, promptTokens: 300) }
    #expect(estimate.tokens(forBytes: 1000) == 300)
  }

  @Test func oddReportsAreIgnoredOrBounded() {
    var estimate = TokenEstimate()
    estimate.observe(bytes: 100, promptTokens: 90)
    estimate.observe(bytes: 1000, promptTokens: 0)
    #expect(estimate.factor == 1)
    estimate.observe(bytes: 1000, promptTokens: 1_000_000)
    #expect(estimate.factor == 4)
  }
}
