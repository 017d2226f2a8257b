// The names of full blocks: chained hashes, so that a block is only found behind the same prefix.

internal import Base

/// Prompt tokens and their block hashes.
///
/// There is no tokenizer in the simulated engine: a prompt token is four bytes of the canonical prompt as a
/// little-endian number, the last one filled up with zeros. The frontend hashes the same bytes in blocks of 4 x block
/// size, so its predictions and this cache agree block by block.
enum BlockHash {
  static let bytesPerToken = 4

  static func tokenCount(bytes: Int) -> Int { (bytes + bytesPerToken - 1) / bytesPerToken }

  /// What a cache salt adds to the seed, as in Dynamo; 0 for none.
  static func salt(_ text: String) -> UInt64 {
    text.isEmpty ? 0 : Array(text.utf8).withUnsafeBytes { XXH3.hash($0, seed: 1) }
  }

  /// The hash of a block's content behind the block of hash `parent`.
  static func chained(_ content: UnsafeRawBufferPointer, parent: UInt64?, salt: UInt64) -> UInt64 {
    let seed = 1_337 &+ salt
    let local = XXH3.hash(content, seed: seed)
    guard let parent else { return local }
    return withUnsafeBytes(of: (parent.littleEndian, local.littleEndian)) { XXH3.hash($0, seed: seed) }
  }
}
