// Trace context headers: what is accepted is written back as the same, and tracestate stays within its bounds.

import Base
import Telemetry

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzTraceContext(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let data else { return 0 }
  exactly(UnsafeRawBufferPointer(start: data, count: size)) { bytes in
    if let context = TraceParent.parse(bytes) {
      var out = ByteBuffer()
      out.append(traceparent: context)
      require(out.count == TraceParent.length, "a traceparent has its length")
      let again = exactly(out.readable) { TraceParent.parse($0) }
      require(again?.traceID == context.traceID && again?.spanID == context.spanID, "ids come back")
      require(again?.flags == context.flags, "flags come back")
    }
    var state = TraceState()
    var start = 0
    while start < bytes.count {
      var end = start
      while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
      state.add(bytes.slice(start..<end))
      start = end + 1
    }
    require(state.bytes.count <= TraceState.bytesMax, "tracestate is bounded")
    for byte in state.bytes { require(byte >= 0x20 && byte < 0x7f, "tracestate is visible text") }
  }
  return 0
}
