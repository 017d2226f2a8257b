// Spans for tests, written as a sender would.

import Base
import Protobuf
import Telemetry

@testable import TraceStore

/// An attribute's value.
indirect enum SampleValue {
  case string(String)
  case int(Int)
  case double(Double)
  case bool(Bool)
  case list([SampleValue])
  case pairs([(String, SampleValue)])
  case bytes([UInt8])

  func write(into out: inout ByteBuffer) {
    switch self {
    case .string(let text): out.append(field: 1, string: text)
    case .bool(let flag): out.append(field: 2, varint: flag ? 1 : 0)
    case .int(let number): out.append(field: 3, varint: UInt64(bitPattern: Int64(number)))
    case .double(let number): out.append(field: 4, fixed64: number.bitPattern)
    case .list(let values):
      let mark = out.beginMessage(field: 5)
      for value in values {
        let element = out.beginMessage(field: 1)
        value.write(into: &out)
        out.endMessage(element)
      }
      out.endMessage(mark)
    case .pairs(let pairs):
      let mark = out.beginMessage(field: 6)
      for (key, value) in pairs { out.append(key, value, field: 1) }
      out.endMessage(mark)
    case .bytes(let bytes): bytes.withUnsafeBytes { out.append(field: 7, bytes: $0) }
    }
  }
}

extension ByteBuffer {
  mutating func append(_ key: String, _ value: SampleValue, field: Int) {
    let mark = beginMessage(field: field)
    append(field: 1, string: key)
    let inner = beginMessage(field: 2)
    value.write(into: &self)
    endMessage(inner)
    endMessage(mark)
  }
}

/// One span and how it is encoded.
struct SampleSpan {
  var trace: UInt64 = 1
  var traceHigh: UInt64 = 0xaabb_ccdd_eeff_0011
  var id: UInt64 = 1
  var parent: UInt64 = 0
  var name = "http-request"
  var kind = 2
  /// Milliseconds after ``SampleSpan/epoch``.
  var start = 0.0
  var length = 10.0
  var attributes: [(String, SampleValue)] = []
  var events: [(String, at: Double, [(String, SampleValue)])] = []
  var links: [UInt64] = []
  var status: (code: Int, message: String)?

  /// 2026-01-01T00:00:00Z.
  static let epoch: UInt64 = 1_767_225_600_000_000_000

  static func time(_ milliseconds: Double) -> UInt64 { epoch + UInt64(milliseconds * 1e6) }

  func write(into out: inout ByteBuffer) {
    let mark = out.beginMessage(field: 2)
    out.append(id: [traceHigh, trace], field: 1)
    out.append(id: [id], field: 2)
    if parent != 0 { out.append(id: [parent], field: 4) }
    out.append(field: 5, string: name)
    out.append(field: 6, varint: UInt64(kind))
    out.append(field: 7, fixed64: Self.time(start))
    out.append(field: 8, fixed64: Self.time(start + length))
    for (key, value) in attributes { out.append(key, value, field: 9) }
    for (name, at, attributes) in events {
      let event = out.beginMessage(field: 11)
      out.append(field: 1, fixed64: Self.time(at))
      out.append(field: 2, string: name)
      for (key, value) in attributes { out.append(key, value, field: 3) }
      out.endMessage(event)
    }
    for target in links {
      let link = out.beginMessage(field: 13)
      out.append(id: [0, target], field: 1)
      out.append(id: [target], field: 2)
      out.endMessage(link)
    }
    if let status {
      let message = out.beginMessage(field: 15)
      if !status.message.isEmpty { out.append(field: 2, string: status.message) }
      out.append(field: 3, varint: UInt64(status.code))
      out.endMessage(message)
    }
    out.endMessage(mark)
  }
}

extension ByteBuffer {
  mutating func append(id words: [UInt64], field: Int) {
    append(field: field, messageOf: words.count * 8)
    for word in words {
      reserve(8).storeBytes(of: word.bigEndian, as: UInt64.self)
      commit(8)
    }
  }
}

/// An ExportTraceServiceRequest with one resource.
func request(
  _ service: String, resource: [(String, SampleValue)] = [], scope: String = "sample", _ spans: [SampleSpan]
) -> [UInt8] {
  var out = ByteBuffer()
  let mark = out.beginMessage(field: 1)
  let resourceMark = out.beginMessage(field: 1)
  out.append("service.name", .string(service), field: 1)
  for (key, value) in resource { out.append(key, value, field: 1) }
  out.endMessage(resourceMark)
  let scopeSpans = out.beginMessage(field: 2)
  let scopeMark = out.beginMessage(field: 1)
  out.append(field: 1, string: scope)
  out.append(field: 2, string: "1.0")
  out.endMessage(scopeMark)
  for span in spans { span.write(into: &out) }
  out.endMessage(scopeSpans)
  out.endMessage(mark)
  return out.bytes
}

extension SpanStore {
  @discardableResult
  func take(_ bytes: [UInt8], now: Nanoseconds = 1) -> Result<Ingested, IngestError> {
    bytes.withUnsafeBytes { bytes in
      do throws(IngestError) { return .success(try ingest(bytes, now: now)) } catch { return .failure(error) }
    }
  }

  func take(_ service: String, _ spans: [SampleSpan], now: Nanoseconds = 1) {
    take(request(service, spans), now: now)
  }
}

/// A request through frontend and worker, as the product makes it, and a failed one beside it.
func sampleStore() -> SpanStore {
  let store = SpanStore(seed: 7)
  store.take(
    "dynamo-frontend",
    [
      SampleSpan(
        id: 1, name: "POST /v1/chat/completions", length: 100,
        attributes: [("http.response.status_code", .int(200)), ("x_request_id", .string("test-trace-001"))]),
      SampleSpan(
        id: 2, parent: 1, kind: 1, start: 1, length: 98,
        attributes: [
          ("x_request_id", .string("test-trace-001")), ("model", .string("m")), ("ttft_ms", .double(12.5)),
          ("finish", .list([.string("stop"), .string("length")])),
        ], events: [("first_token", at: 13.5, [("index", .int(0))])]),
      SampleSpan(
        id: 3, parent: 2, name: "kv_router.route_request", kind: 3, start: 3, length: 95,
        attributes: [("cached", .bool(true))], links: [77]),
    ], now: 1)
  store.take(
    "dynamo-worker",
    [SampleSpan(id: 4, parent: 3, name: "handle_payload", start: 5, length: 90, status: (1, ""))], now: 2)
  store.take(
    "dynamo-frontend",
    [
      SampleSpan(
        trace: 2, id: 1, name: "POST /v1/chat/completions", start: 1_000, length: 3,
        attributes: [("http.response.status_code", .int(502)), ("x_request_id", .string("broken-1"))],
        status: (2, "no worker"))
    ], now: 3)
  return store
}

/// Ids of the traces that a query finds, the newest first; nil when it is refused.
func found(_ query: String, in store: SpanStore) -> [UInt64]? {
  do throws(TraceQLError) {
    let query = try TraceQLParser.parse(Array(query.utf8))
    return store.search(SearchRequest(.query(query))).hits.map(\.id.low)
  } catch {
    return nil
  }
}

/// Ids of the spans that a query finds in the trace of ``sampleStore()``.
func spans(_ query: String, in store: SpanStore, trace: UInt64 = 1) -> [UInt64] {
  guard let parsed = try? TraceQLParser.parse(Array(query.utf8)),
    let hit = store.search(SearchRequest(.query(parsed))).hits.first(where: { $0.id.low == trace }),
    let stored = store.trace(hit.id)
  else { return [] }
  let view = TraceView(stored)
  return parsed.matches(in: view).map { view.spans[$0].spanID }
}

func written(_ write: (inout ByteBuffer) -> Void) -> String {
  var out = ByteBuffer()
  write(&out)
  return out.text
}
