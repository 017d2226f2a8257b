// Everything captured from engines, and everything their classes encode, decodes to what it says.

import Base
import Testing

@testable import KVEvents

@Suite struct SampleTests {
  static let all = releaseSamples + capturedRequests + capturedEvictions

  @Test(arguments: all)
  func samplesDecodeToWhatTheySay(_ sample: Sample) throws {
    let batch = try decode(sample.payload).get()
    #expect(lines(batch) == sample.events)
    #expect(batch.timestamp == sample.timestamp)
    #expect(batch.rank == sample.rank)
    #expect(batch.malformedEvents + batch.skippedEvents + batch.unknownEvents == 0)
    #expect(batch.events.allSatisfy { $0.tier == .device && !$0.isBigram })
  }

  @Test(arguments: all)
  func everyCutThrows(_ sample: Sample) {
    let payload = sample.payload
    // All cuts of all forms; of the few long ones, which repeat themselves, about a thousand each.
    for count in stride(from: 0, to: payload.count, by: 1 + payload.count / 1000) {
      guard case .failure(.malformed(.truncated)) = decode(Array(payload[..<count])) else {
        Issue.record("\(count) of \(payload.count) bytes were taken for a batch")
        return
      }
    }
    #expect(decode(payload + [0xc0]).failure == .trailingBytes)
  }

  @Test func bytesThatAreChangedAreTakenOrRefusedAndNothingElse() {
    var random = SeededGenerator(seed: 20_261_122)
    for sample in Self.all {
      let payload = sample.payload
      for _ in 0..<50 {
        var changed = payload
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(
            in: 0...255, using: &random)
        }
        if case .success(let batch) = decode(changed) { checkInvariants(batch) }
      }
    }
  }

  /// vLLM 0.32's own bytes come out of the encoder: whatever our encoder forgot would show.
  @Test(arguments: capturedRequests + capturedEvictions)
  func theEncoderWritesWhatVLLMWrites(_ sample: Sample) throws {
    let batch = try decode(sample.payload).get()
    var encoder = CacheEventEncoder()
    for event in batch.events {
      switch event.kind {
      case .cleared: encoder.cleared()
      case .removed: encoder.removed(hashes: Array(batch.hashes(of: event)))
      case .stored:
        encoder.stored(
          hashes: Array(batch.hashes(of: event)), parent: event.parent,
          tokens: Array(batch.tokens(of: event)),
          blockSize: event.blockSize, salt: event.salt.isEmpty ? nil : batch.text(at: event.salt))
      }
    }
    var out = ByteBuffer()
    encoder.finish(timestamp: batch.timestamp, rank: batch.rank ?? 0, into: &out)
    #expect(out.bytes == sample.payload)
  }
}

/// What holds for every batch that was decoded.
func checkInvariants(_ batch: CacheEventBatch) {
  for event in batch.events {
    #expect(event.hashes.upperBound <= batch.hashes.count && event.tokens.upperBound <= batch.tokens.count)
    #expect(event.adapter.upperBound <= batch.text.count && event.salt.upperBound <= batch.text.count)
    guard event.kind == .stored else { continue }
    #expect(event.blockSize > 0 && event.tokens.count == event.hashes.count * event.blockSize)
    #expect((0...event.hashes.count).contains(event.hashableBlocks))
  }
}

/// Numbers that are the same in each run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}
