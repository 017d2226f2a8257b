// Reads batches of cache events as vLLM 0.9 to 0.32 and SGLang 0.4 to 0.5 publish them.

internal import Base

/// Why a payload is no batch of events. Nothing of it is used.
package enum CacheEventError: Error, Sendable, Equatable {
  /// Not MessagePack, or cut short.
  case malformed(MessagePackError)
  /// MessagePack, but not `[timestamp, [event...], rank]`.
  case notABatch
  /// Bytes follow the batch.
  case trailingBytes
  /// More events, hashes or tokens than ``CacheEventLimits`` allows.
  case tooLarge
}

/// Decodes payloads of one engine into a ``CacheEventBatch``.
///
/// A batch is an array `[timestamp, [event...], rank]`. An event is an array with its tag first and the fields of its
/// release behind it (vLLM to 0.23, SGLang to 0.5.18), or a map with the tag under `type` (later ones). Fields that are
/// absent, nil or unknown are passed over.
///
/// It remembers which KV cache groups are no prefix cache of whole prompts (sliding windows, state space layers):
/// stores name their group's kind, removals only its number.
package struct CacheEventDecoder {
  private let limits: CacheEventLimits
  /// Bit g: group g was stored with a kind that is not followed.
  private var unfollowedGroups: UInt64 = 0

  /// A decoder that refuses batches beyond `limits`.
  package init(limits: CacheEventLimits = CacheEventLimits()) { self.limits = limits }

  /// Forgets what it learned of the engine, which has been started anew.
  package mutating func engineRestarted() { unfollowedGroups = 0 }

  /// Reads `payload` into `batch`, whose memory is used again. After an error the batch's content means nothing.
  package mutating func decode(
    _ payload: UnsafeRawBufferPointer, into batch: inout CacheEventBatch
  ) throws(CacheEventError) {
    batch.removeAll()
    var reader = MessagePackReader(payload)
    do throws(MessagePackError) {
      let fields = try reader.arrayCount()
      guard fields >= 2 else { throw MessagePackError.otherType }
      batch.timestamp = try reader.double()
      let count = try reader.arrayCount()
      guard count <= limits.eventsMax else { throw MessagePackError.outOfRange }
      for _ in 0..<count { try decodeEvent(&reader, into: &batch) }
      if fields > 2 { batch.rank = try Self.rank(&reader) }
      for _ in 3..<max(fields, 3) { try reader.skip() }
    } catch {
      switch error {
      case .otherType: throw .notABatch
      case .outOfRange: throw .tooLarge
      case .truncated, .unknownFormat: throw .malformed(error)
      }
    }
    if reader.remaining > 0 { throw .trailingBytes }
  }

  private static func rank(_ reader: inout MessagePackReader) throws(MessagePackError) -> Int? {
    if try reader.takeNil() { return nil }
    let (bits, isNegative) = try reader.integerBits()
    guard !isNegative, bits < 65_536 else { throw .otherType }
    return Int(bits)
  }

  /// Reads one event. What is wrong with its fields costs the event; what is wrong with the bytes costs the batch.
  private mutating func decodeEvent(
    _ reader: inout MessagePackReader, into batch: inout CacheEventBatch
  ) throws(MessagePackError) {
    let start = reader
    let mark = (batch.hashes.count, batch.tokens.count, batch.text.count)
    var fields = CacheEventFields(hashesMax: limits.hashesMax, tokensMax: limits.tokensMax)
    do throws(MessagePackError) {
      let outcome = try fields.read(&reader, into: &batch)
      let isFollowed = fields.isFollowed(&unfollowedGroups)
      switch outcome {
      case .use(let event) where isFollowed:
        batch.events.append(event)
        return
      case .use, .skipped: batch.skippedEvents += 1
      case .unknown: batch.unknownEvents += 1
      case .malformed: lose(fields, in: &batch)
      }
    } catch {
      if error == .truncated || error == .unknownFormat || fields.isTooLarge { throw error }
      reader = start
      try reader.skip()
      lose(fields, in: &batch)
    }
    batch.hashes.removeLast(batch.hashes.count - mark.0)
    batch.tokens.removeLast(batch.tokens.count - mark.1)
    batch.text.removeLast(batch.text.count - mark.2)
  }

  private func lose(_ fields: CacheEventFields, in batch: inout CacheEventBatch) {
    batch.malformedEvents += 1
    if fields.mayRemove { batch.hidesRemovals = true }
  }
}
