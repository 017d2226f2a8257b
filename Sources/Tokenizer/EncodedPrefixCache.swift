// Ids of chunks of prompts met before, so that a prompt sent again costs hashing and not encoding.

internal import Base
internal import Synchronization

/// A cache from chunks of text to their ids, shared by the encoders of all threads.
///
/// An encoder cuts text at places that depend on what stands before them only (``SafeCuts``), so prompts that begin alike
/// have chunks in common. A chunk's bytes are kept and compared: a wrong hash costs time, never a wrong id. What was
/// used least recently goes first. Locked for one look-up or one insertion at a time.
package final class EncodedPrefixCache: Sendable {
  /// Chunks end at the first safe place behind this many bytes.
  static let chunkBytes = 1_024
  /// Shorter stretches of text are not worth a look-up.
  static let chunkBytesMin = 256
  /// Longer chunks (text without a safe place) are not kept.
  static let chunkBytesMax = 64 << 10

  /// What happened so far.
  package struct Statistics: Sendable, Equatable {
    /// Chunks found.
    package var hits = 0
    /// Chunks looked for in vain.
    package var misses = 0
    /// Chunks pushed out by newer ones.
    package var evictions = 0
    /// Chunks held.
    package var entries = 0
    /// Memory held, bookkeeping included.
    package var bytes = 0
  }

  /// Where a chunk belongs.
  struct Key {
    let hash: UInt64
    /// The tokenizer's number and what else changes the ids of the same bytes.
    let owner: UInt64
  }

  private let seed: UInt64
  private let state: Mutex<ChunkTable>

  /// A cache of at most `bytesMax` bytes. `seed` makes hashes unforeseeable; take it from the process's random source.
  package init(bytesMax: Int = 32 << 20, seed: UInt64) {
    self.seed = seed
    state = Mutex(ChunkTable(bytesMax: bytesMax))
  }

  /// What happened so far, read at once.
  package var statistics: Statistics { state.withLock { $0.statistics } }

  func key(_ chunk: UnsafeRawBufferPointer, _ tokenizer: Tokenizer, hasPrefix: Bool, isNormalized: Bool)
    -> Key
  {
    let owner = tokenizer.serialNumber << 2 | (hasPrefix ? 1 : 0) | (isNormalized ? 2 : 0)
    return Key(hash: XXH3.hash(chunk, seed: seed ^ owner), owner: owner)
  }

  func append(_ key: Key, _ chunk: UnsafeRawBufferPointer, to ids: inout TokenIDs) -> Bool {
    state.withLock { $0.append(key, chunk, to: &ids) }
  }

  func remember(_ key: Key, _ chunk: UnsafeRawBufferPointer, _ ids: Slice<UnsafeBufferPointer<UInt32>>) {
    guard chunk.count <= EncodedPrefixCache.chunkBytesMax else { return }
    state.withLock { $0.insert(key, chunk, UnsafeBufferPointer(rebasing: ids)) }
  }
}
