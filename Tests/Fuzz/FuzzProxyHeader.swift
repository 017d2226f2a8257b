// The PROXY header of version 2: whole and byte by byte it comes to the same, and not a byte behind it is asked for.

import Base
import EventLoop
import Transport

/// What came of a header.
private enum Outcome: Equatable {
  case answer(ProxyHeaderReader.Answer, bytes: Int)
  case fault(ProxyHeaderFault)
  /// The bytes are over, and it wants more.
  case unfinished
}

/// Reads `bytes` as a connection does: up to `pieceBytes` at a time, never more than the reader wants.
private func read(_ bytes: UnsafeRawBufferPointer, pieceBytes: Int) -> Outcome {
  var reader = ProxyHeaderReader()
  var offset = 0
  while true {
    let wanted = reader.wanted
    require(wanted > 0, "a reader without an answer wants more")
    require(offset + wanted <= 16 + 65_535, "it wants no more than a header can promise")
    let count = min(wanted, pieceBytes, bytes.count - offset)
    guard count > 0 else { return .unfinished }
    let piece = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    offset += count
    do throws(ProxyHeaderFault) {
      guard
        let answer = try exactlyThrowing(
          piece, { (piece) throws(ProxyHeaderFault) in try reader.receive(piece) })
      else { continue }
      require(reader.wanted == 0, "behind the header nothing is read")
      require(offset <= ProxyHeaderReader.bytesMax, "a header is bounded")
      return .answer(answer, bytes: offset)
    } catch {
      return .fault(error)
    }
  }
}

/// As ``exactly(_:_:)``, for what throws.
private func exactlyThrowing<Result>(
  _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws(ProxyHeaderFault) -> Result
) throws(ProxyHeaderFault) -> Result {
  let block = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
  defer { block.deallocate() }
  block.copyMemory(from: bytes)
  return try body(UnsafeRawBufferPointer(block))
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzProxyHeader(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  let whole = read(input, pieceBytes: .max)
  let pieces = read(input, pieceBytes: 1 + steer % 32)
  switch (whole, pieces) {
  // Cut short, a header may be known to be none before the other way of reading saw enough of it.
  case (.fault, .fault): break
  default: require(whole == pieces, "a cut changes nothing")
  }
  if case .answer(.client(let address), _) = whole {
    require(!address.isUnix && !address.host.isEmpty, "a client has an address")
  }
  return 0
}
