// The block sizes among a model's workers, of which each prompt is hashed in every one.

import Base

/// Which sizes a model's prompts are hashed in, and in which of them each worker is known.
///
/// Hashes of different sizes never meet, so one index holds the blocks of all of them; a prompt is looked up once in each
/// size, and each worker finds its own. Hashing costs time for each size, so their number is bounded: workers of further
/// sizes are known by the model's size, which is right for predictions, and their engines' events are refused
/// (``CacheSourceReason/blockSize``).
package struct BlockSizes: Sendable, Equatable {
  /// The most sizes of one model: engines use 16, 32, 64 or 128.
  package static let countMax = 4

  /// The model's own: in its blocks costs and decisions are told.
  package let model: Int
  /// Further sizes of its workers, in the order in which they came.
  package let others: [Int]
  /// Workers of sizes beyond the bound.
  package let leftOut: Int

  /// - Parameters:
  ///   - model: the model's own size.
  ///   - workers: the size of each worker, in an order that stays.
  package init(model: Int, workers: some Sequence<Int> = []) {
    var others: [Int] = []
    var leftOut = 0
    for size in workers where size != model && !others.contains(size) {
      if size > 0, others.count + 1 < Self.countMax { others.append(size) } else { leftOut += 1 }
    }
    self.model = model
    self.others = others
    self.leftOut = leftOut
  }

  /// The size in which a worker of `size` is known.
  package func known(_ size: Int) -> Int { others.contains(size) ? size : model }
}

/// A prompt's chain in another size than its model's.
package struct SizedChain {
  package let blockSize: Int
  /// Chained block hashes; memory is the caller's.
  package let chain: UnsafeBufferPointer<UInt64>

  package init(blockSize: Int, chain: UnsafeBufferPointer<UInt64>) {
    self.blockSize = blockSize
    self.chain = chain
  }
}

extension RoutingRequest {
  /// The chain by which workers of a block size are asked; empty when the prompt was not hashed in it, as when the first
  /// worker of that size came meanwhile.
  func chain(_ blockSize: Int, model: Int) -> UnsafeBufferPointer<UInt64> {
    if blockSize == model { return chain }
    for other in otherChains where other.blockSize == blockSize { return other.chain }
    return UnsafeBufferPointer(start: nil, count: 0)
  }
}
