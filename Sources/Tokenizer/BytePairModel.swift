// Byte-pair encoding of one piece of text: bytes or characters first, then merges in the order of their ranks.

/// A BPE model: vocabulary, merges, and what becomes of text that has no token. Immutable and shared by all threads.
///
/// `@unchecked`: raw tables that `init` writes and nobody after it.
final class BytePairModel: @unchecked Sendable {
  /// What stands for text without a token of its own.
  struct Fallback: Sendable {
    /// The token of each byte (`<0x00>` to `<0xFF>`); empty when the model has none.
    var byteTokens: [UInt32] = []
    /// The token for the unknown; nil leaves such text out.
    var unknown: UInt32?
    /// Whether unknown characters in a row are one token.
    var fusesUnknown = false
  }

  let vocabulary: Vocabulary
  let merges: MergeTable
  let fallback: Fallback
  /// Whether a piece that is a token is that token, whatever the merges say.
  let ignoresMerges: Bool

  /// The token of each byte, or of each ASCII character; ``MergeTable/none`` where there is none.
  private let byteTokens: UnsafeMutablePointer<UInt32>
  /// The rank of each pair of bytes, so that the first round needs no hashing; byte-level models only.
  private let bytePairRanks: UnsafeMutablePointer<UInt32>?

  init(vocabulary: Vocabulary, merges: MergeTable, fallback: Fallback, ignoresMerges: Bool) {
    self.vocabulary = vocabulary
    self.merges = merges
    self.fallback = fallback
    self.ignoresMerges = ignoresMerges
    byteTokens = .allocate(capacity: 256)
    for byte in 0..<256 {
      let text = UInt8(byte)
      byteTokens[byte] = withUnsafeBytes(of: text) { vocabulary.id(of: $0) ?? MergeTable.none }
    }
    guard vocabulary.spelling == .byteLevel else {
      bytePairRanks = nil
      return
    }
    let ranks = UnsafeMutablePointer<UInt32>.allocate(capacity: 65_536)
    for left in 0..<256 {
      for right in 0..<256 {
        let (first, second) = (byteTokens[left], byteTokens[right])
        let known = first != MergeTable.none && second != MergeTable.none
        ranks[left << 8 | right] = known ? merges.rank(first, second) : MergeTable.none
      }
    }
    bytePairRanks = ranks
  }

  deinit {
    byteTokens.deallocate()
    bytePairRanks?.deallocate()
  }

  /// Appends the ids of `piece`, which is not empty.
  func encode(_ piece: UnsafeRawBufferPointer, _ work: inout MergeWorkspace, into output: inout TokenIDs) {
    if ignoresMerges, let id = vocabulary.id(of: piece) {
      output.append(id)
      return
    }
    work.reserve(piece.count)
    let hasRanks = fillSymbols(piece, &work)
    if work.count > 1 {
      if work.count <= MergeWorkspace.shortMax {
        if !hasRanks { fillRanks(&work) }
        mergeShort(&work)
      } else {
        mergeLong(&work)
      }
    }
    output.append(UnsafeBufferPointer(start: work.ids, count: work.count))
  }

  // MARK: First symbols

  /// Turns the piece into its first symbols. Returns true when the ranks of neighbours are filled in as well.
  private func fillSymbols(_ piece: UnsafeRawBufferPointer, _ work: inout MergeWorkspace) -> Bool {
    guard let base = piece.bindMemory(to: UInt8.self).baseAddress else { return false }
    guard let bytePairRanks else {
      fillCharacters(base, piece.count, &work)
      return false
    }
    var isComplete = true
    for index in 0..<piece.count {
      let id = byteTokens[Int(base[index])]
      work.ids[index] = id
      if id == MergeTable.none { isComplete = false }
    }
    work.count = piece.count
    guard isComplete else {
      replaceUnknownBytes(&work)
      return false
    }
    if piece.count <= MergeWorkspace.shortMax {
      for index in 0..<(piece.count - 1) {
        work.ranks[index] = bytePairRanks[Int(base[index]) << 8 | Int(base[index + 1])]
      }
    }
    return true
  }

  private func replaceUnknownBytes(_ work: inout MergeWorkspace) {
    var written = 0
    var isInUnknown = false
    for index in 0..<work.count {
      var id = work.ids[index]
      if id == MergeTable.none {
        guard let unknown = fallback.unknown, !(isInUnknown && fallback.fusesUnknown) else { continue }
        id = unknown
        isInUnknown = true
      } else {
        isInUnknown = false
      }
      work.ids[written] = id
      written += 1
    }
    work.count = written
  }

  /// Characters of which each is a token, its bytes' tokens, or unknown.
  private func fillCharacters(_ base: UnsafePointer<UInt8>, _ count: Int, _ work: inout MergeWorkspace) {
    var written = 0
    // An unknown token is written when the next known one comes; tokens of bytes do not count as such (the reference
    // implementation's order).
    var pendingUnknown = false
    var index = 0
    while index < count {
      let length = TextCharacter(at: base + index).length
      let bytes = UnsafeRawBufferPointer(start: base + index, count: length)
      let known = length == 1 ? byteTokens[Int(base[index])] : vocabulary.id(of: bytes) ?? MergeTable.none
      if known != MergeTable.none {
        if pendingUnknown, let unknown = fallback.unknown {
          work.ids[written] = unknown
          written += 1
          pendingUnknown = false
        }
        work.ids[written] = known
        written += 1
      } else if !fallback.byteTokens.isEmpty {
        for byte in bytes {
          work.ids[written] = fallback.byteTokens[Int(byte)]
          written += 1
        }
      } else if let unknown = fallback.unknown {
        if pendingUnknown, !fallback.fusesUnknown {
          work.ids[written] = unknown
          written += 1
        }
        pendingUnknown = true
      }
      index += length
    }
    if pendingUnknown, let unknown = fallback.unknown {
      work.ids[written] = unknown
      written += 1
    }
    work.count = written
  }

  private func fillRanks(_ work: inout MergeWorkspace) {
    for index in 0..<(work.count - 1) {
      work.ranks[index] = merges.rank(work.ids[index], work.ids[index + 1])
    }
  }

  // MARK: Merging

  /// Merges the leftmost pair of the lowest rank until none merges. Quadratic, and the fastest for words.
  private func mergeShort(_ work: inout MergeWorkspace) {
    let ids = work.ids
    let ranks = work.ranks
    var count = work.count
    while count > 1 {
      var best = ranks[0]
      var place = 0
      var index = 1
      while index < count &- 1 {
        let rank = ranks[index]
        if rank < best { (best, place) = (rank, index) }
        index &+= 1
      }
      if best == MergeTable.none { break }
      let merged = merges.result(best)
      ids[place] = merged
      count &-= 1
      var gap = place &+ 1
      while gap < count {
        ids[gap] = ids[gap &+ 1]
        ranks[gap] = ranks[gap &+ 1]
        gap &+= 1
      }
      if place > 0 { ranks[place &- 1] = merges.rank(ids[place &- 1], merged) }
      ranks[place] = place &+ 1 < count ? merges.rank(merged, ids[place &+ 1]) : MergeTable.none
    }
    work.count = count
  }

  /// The same for long pieces: a linked list and a heap of pairs, so that the time grows with n log n.
  private func mergeLong(_ work: inout MergeWorkspace) {
    work.linkSymbols()
    var heap = MergeHeap(capacity: work.count)
    for index in 0..<(work.count - 1) {
      let rank = merges.rank(work.ids[index], work.ids[index + 1])
      work.ranks[index] = rank
      if rank != MergeTable.none { heap.append(rank: rank, place: index) }
    }
    work.ranks[work.count - 1] = MergeTable.none
    heap.order()
    while let (rank, place) = heap.removeFirst() {
      // The pair was changed by another merge since it was put here.
      guard work.ranks[place] == rank else { continue }
      let right = Int(work.next[place])
      work.ids[place] = merges.result(rank)
      work.ranks[right] = MergeTable.none
      work.ids[right] = MergeTable.none
      let behind = Int(work.next[right])
      work.next[place] = Int32(behind)
      if behind < work.count {
        work.previous[behind] = Int32(place)
        rerank(place, behind, &work, &heap)
      } else {
        work.ranks[place] = MergeTable.none
      }
      let before = Int(work.previous[place])
      if before >= 0 { rerank(before, place, &work, &heap) }
    }
    work.compact()
  }

  private func rerank(_ left: Int, _ right: Int, _ work: inout MergeWorkspace, _ heap: inout MergeHeap) {
    let rank = merges.rank(work.ids[left], work.ids[right])
    work.ranks[left] = rank
    if rank != MergeTable.none { heap.insert(rank: rank, place: left) }
  }
}
