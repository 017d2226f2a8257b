// The answer to a search, in Tempo's JSON.

internal import Base
internal import JSON
internal import Telemetry

extension ByteBuffer {
  /// Appends the answer to `GET /api/search`, the traces that began last first. One that was cut by a bound has no
  /// completed job.
  mutating func append(_ search: Search) {
    append("{\"traces\":" as StaticString)
    var list = JSONList()
    for hit in search.hits.sorted(by: { $0.startTime > $1.startTime }) {
      list.next(&self)
      hit.shown.withUnsafeBytes { append($0) }
    }
    list.end(&self)
    append(",\"metrics\":" as StaticString)
    var metrics = JSONObject()
    if search.inspectedTraces > 0 {
      metrics.key("inspectedTraces", &self)
      append(decimal: search.inspectedTraces)
      metrics.key("inspectedBytes", &self)
      append(quotedDecimal: UInt64(search.inspectedBytes))
    }
    metrics.key("completedJobs", &self)
    append(decimal: search.isCut ? 0 : 1)
    metrics.key("totalJobs", &self)
    append(decimal: 1)
    metrics.end(&self)
    append(UInt8(ascii: "}"))
  }

  /// Appends tempopb.TraceSearchMetadata of a trace, of whose spans `matched` match. False when a bound ended it.
  mutating func append(_ view: TraceView, _ matched: [Int], _ request: SearchRequest) -> Bool {
    let trace = view.trace
    guard view.spend(trace.bytes) else { return false }
    var object = JSONObject()
    object.key("traceID", &self)
    append(shortHex: trace.id)
    object.key("rootServiceName", &self)
    if let root = view.root {
      append(jsonString: view.spans[root].origin.serviceName)
      object.key("rootTraceName", &self)
      append(jsonString: view.spans[root].name)
    } else {
      // As Go's encoder escapes it.
      append("\"\\u003croot span not yet received\\u003e\"" as StaticString)
    }
    if trace.startTime > 0 {
      object.key("startTimeUnixNano", &self)
      append(quotedDecimal: trace.startTime)
    }
    let milliseconds = trace.duration / millisecond
    if milliseconds > 0 {
      object.key("durationMs", &self)
      append(decimal: milliseconds)
    }
    if case .query(let query) = request.filter {
      var spanset = ByteBuffer()
      guard spanset.append(spansetOf: view, matched, query.shownFields, request) else { return false }
      object.key("spanSet", &self)
      append(spanset.readable)
      object.key("spanSets", &self)
      append(UInt8(ascii: "["))
      append(spanset.readable)
      append(UInt8(ascii: "]"))
      object.key("serviceStats", &self)
      append(serviceStatsOf: view)
    }
    object.end(&self)
    return true
  }

  private mutating func append(
    spansetOf view: TraceView, _ matched: [Int], _ fields: [SpanField], _ request: SearchRequest
  ) -> Bool {
    let spansMax = request.spansPerSpanset
    append("{\"spans\":" as StaticString)
    var list = JSONList()
    for index in matched.prefix(spansMax == 0 ? .max : spansMax) {
      list.next(&self)
      append(spanAt: index, view, fields)
      // It is in the answer twice.
      guard view.budget?.isOver != true, count <= request.answerBytesMax / 2 else { return false }
    }
    list.end(&self)
    append(",\"matched\":" as StaticString)
    append(decimal: matched.count)
    append(UInt8(ascii: "}"))
    return true
  }

  private mutating func append(spanAt index: Int, _ view: TraceView, _ fields: [SpanField]) {
    let span = view.spans[index]
    var object = JSONObject()
    object.key("spanID", &self)
    append(UInt8(ascii: "\""))
    append(hex: span.spanID)
    append(UInt8(ascii: "\""))
    if fields.contains(.intrinsic(.name)) {
      object.key("name", &self)
      append(jsonString: span.name)
    }
    if span.start > 0 {
      object.key("startTimeUnixNano", &self)
      append(quotedDecimal: span.start)
    }
    if span.duration > 0 {
      object.key("durationNanos", &self)
      append(quotedDecimal: span.duration)
    }
    var attributes = ByteBuffer()
    var list = JSONList()
    for field in fields {
      _ = view.holds(field, index) { attributes.append(field, value: $0, in: &list) }
    }
    if !attributes.isEmpty {
      list.end(&attributes)
      object.key("attributes", &self)
      append(attributes.readable)
    }
    object.end(&self)
  }

  /// Appends what a condition was about. True when there was such a value; false asks for the next event's or link's.
  private mutating func append(_ field: SpanField, value: SpanValue, in list: inout JSONList) -> Bool {
    let key: [UInt8]
    switch field {
    case .attribute(_, let name): key = name
    case .parent: key = Array(field.labelName.utf8)
    case .intrinsic(let intrinsic):
      // What stands in the answer anyway, Tempo does not repeat.
      switch intrinsic {
      case .name, .duration, .traceDuration, .traceID, .spanID, .rootName, .rootServiceName: return true
      default: key = Array(intrinsic.rawValue.utf8)
      }
    }
    func write(_ attribute: AttributeValue, _ out: inout ByteBuffer) {
      list.next(&out)
      key.withUnsafeBytes { out.append(key: $0, value: attribute) }
    }
    func write(_ word: String, _ out: inout ByteBuffer) {
      var word = word
      word.withUTF8 { write(.string(UnsafeRawBufferPointer($0)), &out) }
    }
    switch value {
    case .none: return false
    case .string(let text): write(.string(text), &self)
    case .bool(let flag): write(.bool(flag), &self)
    case .int(let number): write(.int(number), &self)
    case .double(let number): write(.double(number), &self)
    case .duration(let length): write(.int(Int64(clamping: length)), &self)
    case .status(let code): write(SpanNames.status(code), &self)
    case .kind(let kind): write(SpanNames.kind(kind), &self)
    case .array(let content): write(.array(content), &self)
    }
    return true
  }

  private mutating func append(serviceStatsOf view: TraceView) {
    var stats: [String: (spans: Int, errors: Int)] = [:]
    for span in view.spans {
      stats[span.origin.serviceName, default: (0, 0)].spans += 1
      if span.isError { stats[span.origin.serviceName, default: (0, 0)].errors += 1 }
    }
    var list = JSONList(open: UInt8(ascii: "{"), close: UInt8(ascii: "}"))
    for (name, counts) in stats.sorted(by: { $0.key < $1.key }) {
      list.next(&self)
      append(jsonString: name)
      append(":{\"spanCount\":" as StaticString)
      append(decimal: counts.spans)
      if counts.errors > 0 {
        append(",\"errorCount\":" as StaticString)
        append(decimal: counts.errors)
      }
      append(UInt8(ascii: "}"))
    }
    list.end(&self)
  }

  /// Appends an id as searches answer it: hexadecimal without zeros at the left, in quotes.
  private mutating func append(shortHex id: TraceID) {
    append(UInt8(ascii: "\""))
    if id.high == 0 {
      append(String(id.low, radix: 16))
    } else {
      append(String(id.high, radix: 16))
      append(hex: id.low)
    }
    append(UInt8(ascii: "\""))
  }
}
