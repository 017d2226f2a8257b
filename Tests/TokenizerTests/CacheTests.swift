// Caches: what they hold, what they push out, and that they never answer for another's text.

import Base
import Testing

@testable import Tokenizer

@Suite struct CacheTests {
  private func key(_ text: String) -> PieceCache.ShortKey {
    let count = text.utf8.count
    // The bytes behind the piece must not matter.
    let bytes = Array(text.utf8) + [UInt8](repeating: 0xee, count: 16)
    return PieceCache.ShortKey(readable: bytes, count: count)
  }

  @Test func shortPiecesComeBackWithAllTheirIDs() {
    let cache = PieceCache()
    for count in 0...5 {
      let ids = (0..<count).map { UInt32((1 << 21) - 1 - $0) }
      for text in ["a", "12345678", "123456789", "123456789012345"] {
        ids.withUnsafeBufferPointer { cache.remember(key(text), $0) }
        var output = TokenIDs()
        output.reserve(6)
        #expect(cache.append(key(text), to: &output))
        #expect(output.array == ids)
      }
    }
    var output = TokenIDs()
    #expect(!cache.append(key("b"), to: &output))
    #expect(!cache.append(key("a\0"), to: &output))
  }

  @Test func aSecondPieceInTheSamePlaceKeepsTheFirst() {
    let cache = PieceCache()
    let texts = (0..<200_000).map { "piece\($0)" }
    for (number, text) in texts.enumerated() {
      [UInt32(number)].withUnsafeBufferPointer { cache.remember(key(text), $0) }
    }
    var found = 0
    for (number, text) in texts.enumerated() {
      var output = TokenIDs()
      output.reserve(6)
      guard cache.append(key(text), to: &output) else { continue }
      found += 1
      #expect(output.array == [UInt32(number)])
    }
    #expect(found > 40_000 && found <= 65_536)
  }

  @Test func chunksArePushedOutByUseAndWithinTheBound() throws {
    let tokenizer = try SmallModel.named("gpt2")
    let cache = EncodedPrefixCache(bytesMax: 40_000, seed: 3)
    let encoder = TextEncoder(tokenizer, prefixCache: cache)
    let texts = (0..<20).map { number in String(repeating: "text number \(number), ", count: 40) }
    let expected = try texts.map { try TextEncoder(tokenizer).encode($0) }
    for round in 0..<3 {
      for (text, ids) in zip(texts, expected) {
        #expect(try encoder.encode(text) == ids, "round \(round)")
        #expect(cache.statistics.bytes <= 40_000)
        // Used after each of the others, so it is never the one to go.
        #expect(try encoder.encode(texts[0]) == expected[0])
      }
    }
    #expect(cache.statistics.evictions > 0)
    #expect(cache.statistics.entries < 20)
    #expect(cache.statistics.hits >= 59)
  }

  @Test func tokenizersShareACacheWithoutMixing() throws {
    let cache = EncodedPrefixCache(seed: 3)
    let text = String(repeating: "HTTPServer 12345 don't ", count: 60)
    for name in ["gpt2", "o200k", "llama3", "gpt2", "o200k"] {
      let tokenizer = try SmallModel.named(name)
      let encoder = TextEncoder(tokenizer, prefixCache: cache)
      #expect(try encoder.encode(text) == TextEncoder(tokenizer).encode(text))
    }
  }

  @Test func textMayBeCutAtEachSafePlace() throws {
    for name in ["gpt2", "gpt2Digits", "qwen2", "qwen35", "llama3", "o200k", "tekken", "deepSeek", "gemma"] {
      let tokenizer = try SmallModel.named(name)
      let encoder = TextEncoder(tokenizer)
      for text in ReferenceCases.texts where !text.contains("<") {
        let bytes = Array(text.utf8)
        let whole = try encoder.encode(text)
        var start = 1
        while start < bytes.count {
          let cut = bytes.withUnsafeBytes { tokenizer.cuts.next(in: $0, behind: start) }
          guard cut < bytes.count else { break }
          let left = try encoder.encode(String(decoding: bytes[..<cut], as: UTF8.self))
          let right = try encoder.encode(String(decoding: bytes[cut...], as: UTF8.self))
          #expect(left + right == whole, "\(name) at \(cut): \(text.debugDescription)")
          start = cut + 1
        }
      }
    }
  }
}
