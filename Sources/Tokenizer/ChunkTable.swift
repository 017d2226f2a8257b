// The table of the encoded-prefix cache: chunks by hash, bounded in bytes, the least recently used pushed out.

internal import Glibc

/// Chunks of text with their ids. Each entry is one block of memory: the ids, then the text.
///
/// `@unchecked`: owns all its memory, copies what it is given, and lives behind a mutex.
struct ChunkTable: ~Copyable, @unchecked Sendable {
  private struct Entry {
    var hash: UInt64
    var owner: UInt64
    var memory: UnsafeMutableRawPointer
    var idCount: Int
    var byteCount: Int
    /// Neighbours in order of use: newer before, older behind; -1 for none.
    var newer = -1
    var older = -1

    var ids: UnsafeBufferPointer<UInt32> {
      UnsafeBufferPointer(start: memory.assumingMemoryBound(to: UInt32.self), count: idCount)
    }
  }

  /// What an entry costs beside its block: itself, its place in the index, the allocator's header.
  private static let overhead = MemoryLayout<Entry>.stride + 64

  private(set) var statistics = EncodedPrefixCache.Statistics()
  private let bytesMax: Int
  private var entries: [Entry] = []
  private var free: [Int] = []
  private var index: [UInt64: Int] = [:]
  private var newest = -1
  private var oldest = -1

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  deinit {
    for place in index.values { Glibc.free(entries[place].memory) }
  }

  /// Appends the ids of `chunk` to `ids` if they are known.
  mutating func append(
    _ key: EncodedPrefixCache.Key, _ chunk: UnsafeRawBufferPointer, to ids: inout TokenIDs
  ) -> Bool {
    guard let place = index[key.hash], matches(entries[place], key, chunk) else {
      statistics.misses += 1
      return false
    }
    statistics.hits += 1
    ids.append(entries[place].ids)
    if place != newest {
      unlink(place)
      linkAsNewest(place)
    }
    return true
  }

  private func matches(
    _ entry: Entry, _ key: EncodedPrefixCache.Key, _ chunk: UnsafeRawBufferPointer
  ) -> Bool {
    guard entry.owner == key.owner, entry.byteCount == chunk.count, let base = chunk.baseAddress else {
      return false
    }
    return memcmp(entry.memory + entry.idCount * 4, base, chunk.count) == 0
  }

  /// Keeps `ids` for `chunk`, in place of what had the same hash.
  mutating func insert(
    _ key: EncodedPrefixCache.Key, _ chunk: UnsafeRawBufferPointer, _ ids: UnsafeBufferPointer<UInt32>
  ) {
    let size = ids.count * 4 + chunk.count
    guard size + ChunkTable.overhead <= bytesMax, let source = chunk.baseAddress else { return }
    if let place = index[key.hash] { remove(place) }
    while statistics.bytes + size + ChunkTable.overhead > bytesMax, oldest >= 0 {
      remove(oldest)
      statistics.evictions += 1
    }
    guard let memory = malloc(size) else { return }
    if let base = ids.baseAddress { memcpy(memory, base, ids.count * 4) }
    memcpy(memory + ids.count * 4, source, chunk.count)
    let entry = Entry(
      hash: key.hash, owner: key.owner, memory: memory, idCount: ids.count, byteCount: chunk.count)
    let place: Int
    if let reused = free.popLast() {
      entries[reused] = entry
      place = reused
    } else {
      place = entries.count
      entries.append(entry)
    }
    index[key.hash] = place
    linkAsNewest(place)
    statistics.entries += 1
    statistics.bytes += size + ChunkTable.overhead
  }

  private mutating func remove(_ place: Int) {
    unlink(place)
    let entry = entries[place]
    index[entry.hash] = nil
    Glibc.free(entry.memory)
    free.append(place)
    statistics.entries -= 1
    statistics.bytes -= entry.idCount * 4 + entry.byteCount + ChunkTable.overhead
  }

  private mutating func linkAsNewest(_ place: Int) {
    entries[place].newer = -1
    entries[place].older = newest
    if newest >= 0 { entries[newest].newer = place }
    newest = place
    if oldest < 0 { oldest = place }
  }

  private mutating func unlink(_ place: Int) {
    let (newer, older) = (entries[place].newer, entries[place].older)
    if newer >= 0 { entries[newer].older = older } else { newest = older }
    if older >= 0 { entries[older].newer = newer } else { oldest = newer }
  }
}
