// Protobuf messages: fields lie within their message, and reading goes forward.

import Base
import Protobuf

private func walk(_ bytes: UnsafeRawBufferPointer, depth: Int) {
  var reader = ProtobufReader(bytes)
  do throws(ProtobufError) {
    var before = 0
    while let field = try reader.next() {
      require(reader.position > before && reader.position <= bytes.count, "reading goes forward")
      require(field.number > 0, "field numbers are positive")
      before = reader.position
      if depth > 0, let inner = field.bytes { walk(inner, depth: depth - 1) }
    }
    require(reader.position == bytes.count, "a whole message is read to its end")
  } catch {
    require(reader.position <= bytes.count, "a fault lies in the message")
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzProtobuf(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let data else { return 0 }
  exactly(UnsafeRawBufferPointer(start: data, count: size)) { walk($0, depth: 4) }
  return 0
}
