// Cache events: a payload is a batch whose parts lie within it, or it is refused; a feed takes any message in any order.

import Base
import KVEvents

private func check(_ batch: CacheEventBatch) {
  for event in batch.events {
    require(event.hashes.upperBound <= batch.hashes.count, "hashes lie in the batch")
    require(event.tokens.upperBound <= batch.tokens.count, "tokens lie in the batch")
    require(event.adapter.upperBound <= batch.text.count, "the adapter's name lies in the batch")
    require(event.salt.upperBound <= batch.text.count, "the salt lies in the batch")
    guard event.kind == .stored else { continue }
    require(event.tokens.count == event.hashes.count * event.blockSize, "blocks are full")
    require((0...event.hashes.count).contains(event.hashableBlocks), "hashable blocks are among the blocks")
  }
}

private func skips(_ bytes: UnsafeRawBufferPointer) -> Bool {
  var reader = MessagePackReader(bytes)
  do throws(MessagePackError) {
    try reader.skip()
    return reader.remaining == 0
  } catch {
    return false
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzCacheEvents(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let data else { return 0 }
  let input = UnsafeRawBufferPointer(start: data, count: size)
  var decoder = CacheEventDecoder()
  var batch = CacheEventBatch()
  exactly(input) { bytes in
    do throws(CacheEventError) {
      try decoder.decode(bytes, into: &batch)
      check(batch)
      require(skips(bytes), "a batch is one whole value")
    } catch {
      _ = skips(bytes)
    }
  }
  // The same bytes as messages of a feed: a byte of sequence, then a byte of payload length.
  var feed = CacheFeed(rank: nil, canReplay: size % 2 == 0)
  var offset = 0
  while size - offset > 2 {
    var sequence = UInt64(data[offset]).bigEndian
    let length = min(Int(data[offset + 1]), size - offset - 2)
    let time = CacheFeedTime(monotonic: UInt64(offset) * second, wallSeconds: 0)
    withUnsafeBytes(of: &sequence) { sequence in
      exactly(UnsafeRawBufferPointer(start: data + offset + 2, count: length)) { payload in
        feed.received(sequence: sequence, payload: payload, now: time) { action in
          if case .apply(let batch) = action { check(batch) }
        }
      }
    }
    feed.timePassed(now: time) { _ in }
    require(feed.isReplaying || feed.heldMessages == 0, "nothing is held without a replay")
    offset += 2 + length
  }
  return 0
}
