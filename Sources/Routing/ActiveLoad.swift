// Requests in flight: one booking each, ended exactly once whatever happens to the request.

import Base

/// A request's claim on a worker, made by a decision. Ending it twice, or after it expired, does nothing.
package struct Booking: Sendable, Equatable {
  let value: UInt64

  /// A booking that is none.
  package static let none = Booking(value: .max)

  init(value: UInt64) { self.value = value }

  init(index: Int32, generation: UInt32) {
    value = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: index))
  }

  var index: Int { Int(truncatingIfNeeded: value & 0xffff_ffff) }
  var generation: UInt32 { UInt32(truncatingIfNeeded: value >> 32) }
}

/// The bookings, in the order in which they were made.
struct ActiveLoad: ~Copyable {
  struct Record: BitwiseCopyable {
    var generation: UInt32
    var slot: Int32
    /// The last node of the request's chain in the index; -1 when the index does not track it.
    var leaf: Int32
    /// Blocks of the chain, and how many of them the worker was thought to cache.
    var blocks: Int32
    var overlap: Int32
    /// Counted in the worker's ``WorkerState/untrackedBlocks``.
    var untracked: Int32
    /// Still counted in the worker's ``WorkerState/prefillTokens``.
    var prefillTokens: Int
    /// Prompt tokens as the router counted them.
    var tokens: Int
    var bookedAt: Nanoseconds
    /// The stamp of the predictions that the request made; 0 for none.
    var stamp: Nanoseconds
    /// The stamp that the overlap's predictions had before.
    var overlapStamp: Nanoseconds
    var hasFirstToken = false
    /// The worker had blocks of the prompt in use already, which may not have been computed yet.
    var sharesActive = false
    /// Blocks of generated tokens, part of `untracked`.
    var outputBlocks: Int32 = 0
    /// Tokens that the answer is expected to have; 0 when unknown.
    var expectedTokens = 0
    /// Its part of the worker's ``WorkerState/discountedBlocks``.
    var discount = 0.0
    var older: Int32 = -1
    var newer: Int32 = -1
  }

  var records = Slab<Record>()
  private var oldest: Int32 = -1
  private var newest: Int32 = -1
  private var lastGeneration: UInt32 = 0
  /// Life of a booking that nobody ends.
  let expiry: Nanoseconds

  init(expiry: Nanoseconds) { self.expiry = expiry }

  /// Stores a booking. Its generation is set here.
  mutating func add(_ record: Record) -> Booking {
    let index = records.allocate()
    // Generations never repeat within 2^32 bookings, so an old handle cannot meet a new record in its slot.
    lastGeneration &+= 1
    var record = record
    record.generation = lastGeneration
    record.older = newest
    record.newer = -1
    records.base[Int(index)] = record
    if newest >= 0 { records.base[Int(newest)].newer = index } else { oldest = index }
    newest = index
    return Booking(index: index, generation: lastGeneration)
  }

  /// The record of a live booking; nil when it has ended or expired. Valid until the next ``add(_:)``.
  func find(_ booking: Booking) -> UnsafeMutablePointer<Record>? {
    guard booking.index < records.used else { return nil }
    let record = records.base + booking.index
    return record.pointee.generation == booking.generation ? record : nil
  }

  /// The oldest booking if it has outlived its time.
  func expired(now: Nanoseconds) -> Booking? {
    guard oldest >= 0 else { return nil }
    let record = records.base[Int(oldest)]
    guard record.bookedAt &+ expiry <= now else { return nil }
    return Booking(index: oldest, generation: record.generation)
  }

  /// Removes a live booking and returns what it held; nil when it has ended or expired.
  mutating func remove(_ booking: Booking) -> Record? {
    guard let record = find(booking)?.pointee else { return nil }
    let index = Int32(truncatingIfNeeded: booking.index)
    if record.older >= 0 {
      records.base[Int(record.older)].newer = record.newer
    } else {
      oldest = record.newer
    }
    if record.newer >= 0 {
      records.base[Int(record.newer)].older = record.older
    } else {
      newest = record.older
    }
    // Generation 0 is never given out, so a freed slot answers to no handle.
    records.base[Int(index)].generation = 0
    records.release(index)
    return record
  }
}
