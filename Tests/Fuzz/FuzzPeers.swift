// Messages between frontends: read whole or refused, written again as they came; whatever comes leaves bounded books.

import Base
import Routing

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzPeers(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  exactly(input) { bytes in
    guard let message = PeerMessage(bytes) else { return }
    require(message.omittedRows == 0, "what is read fits a message")
    let written = message.encoded()
    require(
      written.withUnsafeBytes { PeerMessage($0) } != nil && written.count <= PeerMessage.bytesMax,
      "what is read can be written and read again")
  }
  // The same bytes as messages of two peers: a byte of length before each.
  var frontends = PeerFrontends(own: 1, lease: 2 * second)
  frontends.add("a")
  frontends.add("b")
  var offset = 0
  var now: Nanoseconds = 0
  while offset < input.count {
    let length = min(Int(input[offset]), input.count - offset - 1)
    let part = UnsafeRawBufferPointer(rebasing: input[(offset + 1)..<(offset + 1 + length)])
    _ = exactly(part) { frontends.received($0, from: (steer + offset) % 3 == 0 ? "a" : "b", now: now) }
    now += second / 2
    frontends.timePassed(now: now)
    offset += 1 + length
  }
  frontends.timePassed(now: now + 2 * second)
  require(frontends.loaded.isEmpty, "silence ends all load")
  return 0
}
