// A prompt cut into blocks and named by chained hashes, which is all that routing knows of its content.

import Base
import Glibc

/// The chained hashes of one prompt's full blocks, in memory that is used again for the next prompt.
///
/// Block i covers `4 * blockSize` bytes: `blockSize` tokens as little-endian `UInt32`, or as many bytes of canonical
/// text where tokens are unknown. Its local hash is XXH3-64 with seed 1337; hash 0 of the chain is the local hash of
/// block 0, hash i is XXH3-64(1337, hash i-1 ++ local hash i), both little-endian (Dynamo 1.6). So an equal hash means
/// an equal prefix. The incomplete block at the end is ignored.
package struct PromptBlocks: ~Copyable {
  /// Dynamo's seed of block and chain hashes.
  package static let seed: UInt64 = 1337
  /// Bytes of one token in a block.
  package static let tokenBytes = 4

  private var base: UnsafeMutablePointer<UInt64>?
  private var capacity = 0
  private let blocksMax: Int
  /// Number of blocks in the chain.
  package private(set) var count = 0

  /// - Parameter blocksMax: longest chain; blocks beyond it are left out, so that a huge prompt costs bounded time and
  ///   memory. The default names 524,288 tokens at 16 a block.
  package init(blocksMax: Int = 32_768) {
    self.blocksMax = blocksMax
  }

  deinit { free(base) }

  /// The chain; valid until the next prompt is hashed.
  package var chain: UnsafeBufferPointer<UInt64> { UnsafeBufferPointer(start: base, count: count) }

  /// The seed for prompts that must not share blocks with others: of a LoRA adapter, of a cache salt, or both.
  /// Empty text counts as absent (Dynamo 1.6).
  package static func seed(adapter: UnsafeRawBufferPointer, salt: UnsafeRawBufferPointer) -> UInt64 {
    var result = seed
    if !adapter.isEmpty { result &+= XXH3.hash(adapter, seed: 0) }
    if !salt.isEmpty { result &+= XXH3.hash(salt, seed: 1) }
    return result
  }

  /// The seed for a prompt that must be hashed by its bytes where others are hashed by tokens; `seed` is the one that its
  /// tokens would have had. No block of the one kind is taken for a block of the other.
  package static func seedOfBytesAmongTokens(_ seed: UInt64) -> UInt64 {
    XXH3.hash16(seed, 1, seed: PromptBlocks.seed)
  }

  /// Forgets the prompt and keeps the memory.
  package mutating func removeAll() { count = 0 }

  /// Hashes a prompt given as canonical bytes.
  package mutating func hash(
    bytes: UnsafeRawBufferPointer, blockSize: Int, seed: UInt64 = PromptBlocks.seed
  ) {
    precondition(blockSize > 0, "a block holds at least one token")
    let blockBytes = blockSize * Self.tokenBytes
    let blocks = min(bytes.count / blockBytes, blocksMax)
    guard let source = bytes.baseAddress, blocks > 0, let target = room(for: blocks) else {
      count = 0
      return
    }
    if blockBytes == 64 {
      Self.hashBlocksOf64(source, blocks, seed, target)
    } else {
      for index in 0..<blocks {
        let block = UnsafeRawBufferPointer(start: source + index * blockBytes, count: blockBytes)
        let local = XXH3.hash(block, seed: seed)
        target[index] = index == 0 ? local : XXH3.hash16(target[index - 1], local, seed: Self.seed)
      }
    }
    count = blocks
  }

  /// Hashes a prompt given as token ids.
  package mutating func hash(
    tokens: UnsafeBufferPointer<UInt32>, blockSize: Int, seed: UInt64 = PromptBlocks.seed
  ) {
    precondition(UInt32(1).littleEndian == 1, "tokens are hashed as little-endian words")
    hash(bytes: UnsafeRawBufferPointer(tokens), blockSize: blockSize, seed: seed)
  }

  /// The hash of a prompt up to its end, by the rule of the chain, where its last block is incomplete; nil where there is
  /// no such block, or where the chain ends before. `bytes` must have been hashed just before, with the same rest.
  package func tail(of bytes: UnsafeRawBufferPointer, blockSize: Int, seed: UInt64) -> UInt64? {
    let blockBytes = blockSize * Self.tokenBytes
    let start = count * blockBytes
    guard start < bytes.count, bytes.count - start < blockBytes else { return nil }
    let local = XXH3.hash(UnsafeRawBufferPointer(rebasing: bytes[start...]), seed: seed)
    return chain.last.map { XXH3.hash16($0, local, seed: Self.seed) } ?? local
  }

  private static func hashBlocksOf64(
    _ source: UnsafeRawPointer, _ blocks: Int, _ seed: UInt64, _ target: UnsafeMutablePointer<UInt64>
  ) {
    var previous = XXH3.hash64(source, seed: seed)
    target[0] = previous
    var index = 1
    while index < blocks {
      let local = XXH3.hash64(source + index &* 64, seed: seed)
      previous = XXH3.hash16(previous, local, seed: PromptBlocks.seed)
      target[index] = previous
      index &+= 1
    }
  }

  /// Memory for `blocks` hashes. A long prompt's memory is given back when a much shorter one follows.
  private mutating func room(for blocks: Int) -> UnsafeMutablePointer<UInt64>? {
    if blocks <= capacity, capacity <= 4096 || blocks > capacity / 8 { return base }
    free(base)
    capacity = max(blocks, 512)
    guard let memory = malloc(capacity * MemoryLayout<UInt64>.stride) else {
      preconditionFailure("out of memory")
    }
    base = memory.assumingMemoryBound(to: UInt64.self)
    return base
  }
}
