// Event streams: no byte is lost, and cuts change no event with data.

import Base
import HTTP

private func scan(_ bytes: UnsafeRawBufferPointer, pieceBytes: Int) -> [[UInt8]] {
  var scanner = SSEScanner()
  var found: [[UInt8]] = []
  var start = 0
  var end = 0
  while end < bytes.count {
    end = min(bytes.count, end + pieceBytes)
    start += exactly(bytes.slice(start..<end)) { input in
      var from = 0
      while true {
        let before = from
        guard let event = scanner.next(input, from: &from) else { break }
        require(event.whole.lowerBound == before && event.whole.upperBound == from, "events leave no gap")
        require(from > before && from <= input.count, "events go forward")
        if let data = event.data { found.append(Array(data)) }
      }
      return from
    }
  }
  return found
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzSSE(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  let whole = scan(input, pieceBytes: max(input.count, 1))
  require(scan(input, pieceBytes: 1 + steer % 32) == whole, "pieces change nothing")
  return 0
}
