// OTLP in: a message is stored or refused, the store's books stay right and its bounds hold, and what was stored can be
// answered in every form.

import Base
import JSON
import Protobuf
import Telemetry
import TraceStore

private func everything() -> TraceQLQuery? {
  try? TraceQLParser.parse(Array("{ .a != nil || name =~ \"a.*\" } >> {}".utf8))
}

private func answer(_ store: SpanStore, _ id: TraceID) {
  var out = ByteBuffer()
  out.append(traceV2: store.trace(id))
  exactly(out.readable) { text in
    var scanner = JSONScanner(text)
    do throws(JSONError) {
      _ = try scanner.skipValue()
      try scanner.finish()
    } catch {
      require(false, "an answer is JSON")
    }
  }
  guard let trace = store.trace(id), trace.spanCount > 0 else { return }
  out.removeAll()
  out.append(protobufTrace: trace)
  let copy = SpanStore(seed: 2)
  let again = try? copy.ingest(out.readable, now: 1)
  require(again?.stored == trace.spanCount, "an answer in protobuf is a message of the same spans")
}

/// Bytes as OTLP's JSON: what they stand for, if anything, is taken or refused like any other message.
private func readAsJSON(_ bytes: UnsafeRawBufferPointer) {
  var message = ByteBuffer()
  guard (try? OTLPJSON.transcode(bytes, into: &message)) != nil else { return }
  let store = SpanStore(seed: 3)
  _ = try? store.ingest(message.readable, now: 1)
  require(store.isConsistent, "the books of the store balance")
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzTraceStore(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  var limits = StoreLimits()
  limits.bytesMax = 16_384 << (steer & 3)
  limits.traceSpansMax = 1 + steer >> 4
  let store = SpanStore(limits: limits, seed: 1)
  for now in 1...3 as ClosedRange<UInt64> {
    exactly(input) { bytes in
      let stored = try? store.ingest(bytes, now: now)
      require(stored == nil || store.isConsistent, "the books are right")
    }
  }
  exactly(input) { readAsJSON($0) }
  var out = ByteBuffer()
  if let everything = everything() { store.writeSearch(SearchRequest(.query(everything)), into: &out) }
  store.writeScopedTagNames(TagRequest(), scope: nil, into: &out)
  answer(store, TraceID(high: 0x0707_0707_0707_0707, low: 0x0707_0707_0707_0707))
  store.expire(now: limits.ageMax + 10)
  require(store.traceCount == 0 && store.bytes == 0, "all traces grow old")
  return 0
}
