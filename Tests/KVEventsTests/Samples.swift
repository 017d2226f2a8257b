// A payload with what it says, and the means to compare.

import Base
import KVEvents
import Testing

/// A published payload. `events` has a line for each event: kind, number and checksum of hashes, and for stores number
/// and checksum of tokens, parent, block size, adapter, salt, blocks to be hashed by tokens. The lines were made from
/// what msgspec decoded.
struct Sample: Sendable, CustomTestStringConvertible {
  let name: String
  let timestamp: Double
  let rank: Int?
  let events: String
  let base64: String

  var payload: [UInt8] { decodedBase64(base64) }
  var testDescription: String { name }
}

/// The bytes of `text`; line breaks are passed over.
func decodedBase64(_ text: String) -> [UInt8] {
  Base64.decode(String(text.filter { !$0.isWhitespace })) ?? []
}

/// The bytes that `text` spells in hexadecimal; spaces are passed over.
func hex(_ text: String) -> [UInt8] {
  let digits = text.utf8.compactMap { Hex.value($0) }
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// Decodes `payload` from memory of exactly its size.
func decode(
  _ payload: [UInt8], with decoder: inout CacheEventDecoder
) -> Result<CacheEventBatch, CacheEventError> {
  let block = UnsafeMutableRawBufferPointer.allocate(byteCount: payload.count, alignment: 1)
  defer { block.deallocate() }
  block.copyBytes(from: payload)
  var batch = CacheEventBatch()
  do throws(CacheEventError) {
    try decoder.decode(UnsafeRawBufferPointer(block), into: &batch)
    return .success(batch)
  } catch {
    return .failure(error)
  }
}

/// Decodes `payload` with a decoder of its own.
func decode(
  _ payload: [UInt8], limits: CacheEventLimits = CacheEventLimits()
) -> Result<CacheEventBatch, CacheEventError> {
  var decoder = CacheEventDecoder(limits: limits)
  return decode(payload, with: &decoder)
}

private func checksum(_ values: some Sequence<UInt64>) -> UInt64 { values.reduce(0) { $0 &* 31 &+ $1 } }

/// The lines of ``Sample`` for `batch`.
func lines(_ batch: CacheEventBatch) -> String {
  batch.events.map { event in
    let hashes = "\(event.hashes.count) \(checksum(batch.hashes(of: event)))"
    switch event.kind {
    case .cleared: return "cleared"
    case .removed: return "removed \(hashes)"
    case .stored:
      let tokens = "\(event.tokens.count) \(checksum(batch.tokens(of: event).map { UInt64($0) }))"
      let parent = event.parent.map { "\($0)" } ?? "root"
      return "stored \(hashes) \(tokens) \(parent) \(event.blockSize) [\(batch.text(at: event.adapter))]"
        + " [\(batch.text(at: event.salt))] \(event.hashableBlocks)"
    }
  }.joined(separator: "\n")
}
