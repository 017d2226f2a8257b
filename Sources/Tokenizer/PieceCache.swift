// What a thread remembers of pieces: their ids by their bytes.

internal import Glibc

/// Ids of pieces met before, 3 MiB a thread. Two tables: pieces of at most 15 bytes with at most 5 ids (nearly all), and
/// those of at most 64 bytes with at most 15 ids. A new piece pushes an old one out, so crafted text can make the cache
/// useless and nothing worse.
struct PieceCache: ~Copyable {
  /// Bytes of memory that both tables take once they are in use.
  static let bytes = shortCount * 32 + longCount * 128

  static let shortBytesMax = 15
  static let longBytesMax = 64
  private static let shortCount = 65_536
  private static let longCount = 8_192

  /// Key of 16 bytes (zeros behind the text, its length last), ids packed into two words. Pairs of entries share a cache
  /// line: the newer is first.
  private let short: UnsafeMutablePointer<UInt64>
  /// The allocation that both tables lie in.
  private let memory: UnsafeMutableRawPointer
  /// Length, count, text (64 bytes from the 4th on), ids (from the 68th on).
  private let long: UnsafeMutableRawPointer

  init() {
    // Zeroed pages that cost nothing before they are touched.
    guard let memory = calloc(PieceCache.bytes + 64, 1) else { preconditionFailure("out of memory") }
    self.memory = memory
    let aligned = memory.alignedUp(toMultipleOf: 64)
    short = aligned.bindMemory(to: UInt64.self, capacity: PieceCache.shortCount * 4)
    long = aligned + PieceCache.shortCount * 32
  }

  deinit { free(memory) }

  /// The key of a short piece.
  struct ShortKey {
    let first: UInt64
    let second: UInt64

    /// The key of the `count` bytes (1 to 15) at `piece`, of which 16 can be read.
    @inline(__always)
    init(readable piece: UnsafePointer<UInt8>, count: Int) {
      let raw = UnsafeRawPointer(piece)
      let low = UInt64(littleEndian: raw.loadUnaligned(as: UInt64.self))
      let length = UInt64(truncatingIfNeeded: count) &<< 56
      if count <= 8 {
        first = low & (UInt64.max &>> UInt64(truncatingIfNeeded: 64 &- count &* 8))
        second = length
      } else {
        first = low
        let high = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        second = high & (UInt64.max &>> UInt64(truncatingIfNeeded: 128 &- count &* 8)) | length
      }
    }

    @inline(__always)
    var place: Int {
      let product = (first ^ 0x9e37_79b1_85eb_ca87).multipliedFullWidth(by: second ^ 0xc2b2_ae3d_27d4_eb4f)
      return Int(truncatingIfNeeded: product.high ^ product.low) & (PieceCache.shortCount / 2 - 1)
    }
  }

  /// Appends the ids of a short piece to `output`, which has room for 6 more; false when they are not known.
  @inline(__always)
  func append(_ key: ShortKey, to output: inout TokenIDs) -> Bool {
    var entry = short + key.place &* 8
    if entry[0] != key.first || entry[1] != key.second {
      entry += 4
      guard entry[0] == key.first, entry[1] == key.second else { return false }
    }
    let (low, high) = (entry[2], entry[3])
    let end = output.end
    end[0] = UInt32(truncatingIfNeeded: low) & 0x1f_ffff
    let count = Int(truncatingIfNeeded: high &>> 42)
    if count > 1 {
      end[1] = UInt32(truncatingIfNeeded: low &>> 21) & 0x1f_ffff
      end[2] = UInt32(truncatingIfNeeded: low &>> 42) & 0x1f_ffff
      end[3] = UInt32(truncatingIfNeeded: high) & 0x1f_ffff
      end[4] = UInt32(truncatingIfNeeded: high &>> 21) & 0x1f_ffff
    }
    output.commit(count)
    return true
  }

  /// Remembers `ids` for a short piece; more than five are left alone.
  func remember(_ key: ShortKey, _ ids: UnsafeBufferPointer<UInt32>) {
    guard ids.count <= 5 else { return }
    var (low, high) = (UInt64(0), UInt64(ids.count) << 42)
    for (index, id) in ids.enumerated() {
      if index < 3 {
        low |= UInt64(id) << UInt64(index * 21)
      } else {
        high |= UInt64(id) << UInt64(index * 21 - 63)
      }
    }
    let entry = short + key.place * 8
    (entry + 4).update(from: entry, count: 4)
    entry[0] = key.first
    entry[1] = key.second
    entry[2] = low
    entry[3] = high
  }

  /// Appends the ids of a piece of at most 64 bytes to `output`; false when they are not known.
  func append(_ piece: UnsafeRawBufferPointer, hash: UInt64, to output: inout TokenIDs) -> Bool {
    guard let base = piece.baseAddress else { return false }
    let entry = long + Int(truncatingIfNeeded: hash) & (PieceCache.longCount - 1) * 128
    guard entry.load(as: UInt8.self) == UInt8(truncatingIfNeeded: piece.count),
      memcmp(entry + 4, base, piece.count) == 0
    else { return false }
    let count = Int(entry.load(fromByteOffset: 1, as: UInt8.self))
    let ids = (entry + 68).assumingMemoryBound(to: UInt32.self)
    output.append(UnsafeBufferPointer(start: ids, count: count))
    return true
  }

  /// Remembers `ids` for a piece of at most 64 bytes; more than 15 are left alone.
  func remember(_ piece: UnsafeRawBufferPointer, hash: UInt64, _ ids: UnsafeBufferPointer<UInt32>) {
    guard ids.count <= 15, let base = piece.baseAddress, let source = ids.baseAddress else { return }
    let entry = long + Int(truncatingIfNeeded: hash) & (PieceCache.longCount - 1) * 128
    entry.storeBytes(of: UInt8(truncatingIfNeeded: piece.count), as: UInt8.self)
    entry.storeBytes(of: UInt8(truncatingIfNeeded: ids.count), toByteOffset: 1, as: UInt8.self)
    memcpy(entry + 4, base, piece.count)
    memcpy(entry + 68, source, ids.count * 4)
  }
}
