// Chunked bodies: whole and in pieces they come to the same, and what is refused stays refused.

import Base
import HTTP

private struct Outcome: Equatable {
  var body: [UInt8] = []
  var trailers: [UInt8] = []
  var used = 0
  var end = 0
}

private func decode(_ bytes: UnsafeRawBufferPointer, pieceBytes: Int) -> Outcome {
  var decoder = HTTP1BodyDecoder(.chunked)
  var outcome = Outcome()
  var start = 0
  while start < bytes.count, outcome.end == 0 {
    let end = min(bytes.count, start + pieceBytes)
    exactly(bytes.slice(start..<end)) { step(&decoder, $0, &outcome) }
    start = end
  }
  require(decoder.bodyBytes == outcome.body.count, "body bytes are counted")
  return outcome
}

private func step(
  _ decoder: inout HTTP1BodyDecoder, _ piece: UnsafeRawBufferPointer, _ outcome: inout Outcome
) {
  var consumed = 0
  while true {
    switch decoder.next(piece, consumed: &consumed) {
    case .bytes(let bytes):
      require(!bytes.isEmpty, "pieces hold something")
      outcome.body += bytes
    case .needMore:
      require(consumed == piece.count, "all input is used")
      outcome.used += consumed
      return
    case .end(let trailers):
      require(consumed <= piece.count, "not more than all input is used")
      outcome.used += consumed
      outcome.trailers = Array(trailers)
      outcome.end = 1
      return
    case .failed(let error):
      outcome.used = 0
      outcome.end = 2 + Int(error.rawValue)
      return
    }
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzHTTP1Body(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  let whole = decode(input, pieceBytes: max(input.count, 1))
  require(decode(input, pieceBytes: 1 + steer % 16) == whole, "pieces change nothing")
  require(decode(input, pieceBytes: 1) == whole, "single bytes change nothing")
  return 0
}
