// Trace context headers: what is accepted is written back as the same, and tracestate and baggage stay within their
// bounds.

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
    checkSampling(Array(state.bytes))
    checkB3(bytes)
    checkBaggage(bytes)
  }
  return 0
}

/// A sampler changes a valid list into a valid list.
private func checkSampling(_ list: [UInt8]) {
  for sampler in [Sampler.ratio(0.5), .ratio(0), .alwaysOn, .alwaysOff, .parentBasedAlwaysOn] {
    var changed = list
    _ = sampler.samples(TraceID(high: 1, low: UInt64(list.count) << 48), parent: true, state: &changed)
    guard !changed.isEmpty else { continue }
    var state = TraceState()
    changed.withUnsafeBytes { state.add($0) }
    require(!state.isEmpty, "a changed tracestate is valid")
    require(changed.count <= list.count + 32, "a changed tracestate is hardly longer")
  }
}

private func checkB3(_ bytes: UnsafeRawBufferPointer) {
  var warnings: [String] = []
  let propagators = Propagators(parsing: "b3", warnings: &warnings)
  let found = propagators.extract(traceparentCount: 0) { $0 == .b3 ? bytes : nil }
  guard let span = found.span else { return }
  var lines = ByteBuffer()
  propagators.inject(span, isDebug: found.isDebug, traceState: [], into: &lines)
  let value = lines.readable.slice(4..<lines.count - 2)
  let again = exactly(value) { value in propagators.extract(traceparentCount: 0) { $0 == .b3 ? value : nil } }
  require(again.span == span && again.isDebug == found.isDebug, "a B3 context comes back")
}

private func checkBaggage(_ bytes: UnsafeRawBufferPointer) {
  var baggage = Baggage()
  var list = ByteBuffer()
  baggage.add(bytes, to: &list)
  require(
    list.count <= Baggage.bytesMax && baggage.memberCount <= Baggage.memberCountMax, "baggage is bounded")
  var again = Baggage()
  var copy = ByteBuffer()
  exactly(list.readable) { again.add($0, to: &copy) }
  require(again.droppedCount == 0 && copy.text == list.text, "what was passed on passes again")
}
