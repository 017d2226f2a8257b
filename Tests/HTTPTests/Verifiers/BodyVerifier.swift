// One verifier for body decoding: the same bytes whole, byte by byte and cut at every point must give the same body.

import Base
import HTTP
import Testing

/// What became of a body.
struct BodyOutcome: Equatable {
  enum End: Equatable {
    case needMore
    case complete
    case failed(HTTP1ParseError)
  }

  var body: [UInt8] = []
  var trailers = ""
  /// Input bytes used, the framing included; not told on failure.
  var used = 0
  var end = End.needMore

  var text: String { String(decoding: body, as: UTF8.self) }
}

enum BodyVerifier {
  /// Decodes `bytes` in every way and expects one outcome, which it returns.
  static func decode(
    _ bytes: [UInt8], _ framing: BodyFraming = .chunked, limits: HTTP1Limits = HTTP1Limits(),
    sourceLocation: SourceLocation = #_sourceLocation
  ) -> BodyOutcome {
    let memory = GuardedMemory(capacity: bytes.count)
    let whole = drive(memory, bytes, cuts: [], framing, limits)
    let single = drive(memory, bytes, cuts: Array(0..<bytes.count), framing, limits)
    #expect(single == whole, "byte by byte", sourceLocation: sourceLocation)
    for cut in stride(from: 1, to: bytes.count, by: max(1, bytes.count / 600)) {
      let split = drive(memory, bytes, cuts: [cut], framing, limits)
      if split != whole {
        #expect(split == whole, "cut at \(cut)", sourceLocation: sourceLocation)
        break
      }
    }
    return whole
  }

  /// Decodes `bytes` in the pieces that `cuts` (ascending) divide them into.
  static func drive(
    _ memory: GuardedMemory, _ bytes: [UInt8], cuts: [Int], _ framing: BodyFraming, _ limits: HTTP1Limits
  ) -> BodyOutcome {
    var decoder = HTTP1BodyDecoder(framing, limits: limits)
    var outcome = BodyOutcome()
    var start = 0
    for end in cuts + [bytes.count] {
      step(&decoder, memory, bytes[start..<end], &outcome)
      if outcome.end != .needMore { break }
      start = end
    }
    let (bodyBytes, isComplete) = (decoder.bodyBytes, decoder.isComplete)
    #expect(bodyBytes == outcome.body.count)
    #expect(isComplete == (outcome.end == .complete))
    return outcome
  }

  private static func step(
    _ decoder: inout HTTP1BodyDecoder, _ memory: GuardedMemory, _ piece: ArraySlice<UInt8>,
    _ outcome: inout BodyOutcome
  ) {
    memory.with(piece) { input in
      var consumed = 0
      while true {
        switch decoder.next(input, consumed: &consumed) {
        case .bytes(let bytes):
          #expect(!bytes.isEmpty)
          outcome.body += Array(bytes)
        case .needMore:
          #expect(consumed == input.count)
          outcome.used += consumed
          return
        case .end(let trailers):
          outcome.used += consumed
          outcome.trailers = trailers.text
          outcome.end = .complete
          return
        case .failed(let error):
          outcome.used = 0
          outcome.end = .failed(error)
          return
        }
      }
    }
  }
}

/// Decodes a chunked `text` in every way.
func chunked(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> BodyOutcome {
  BodyVerifier.decode(Array(text.utf8), sourceLocation: sourceLocation)
}
