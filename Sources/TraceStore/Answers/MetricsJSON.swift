// The answer to a metrics query, in Tempo's JSON (tempopb.QueryRangeResponse and QueryInstantResponse).

internal import Base
internal import Glibc
internal import JSON

extension ByteBuffer {
  /// Appends the answer to `GET /api/metrics/query_range`, or to `/api/metrics/query`. One that a bound has cut says so.
  mutating func append(_ query: MetricsQuery, _ answer: MetricsAnswer?) {
    append("{\"series\":[" as StaticString)
    answer?.write(into: &self)
    append("],\"metrics\":{\"inspectedTraces\":" as StaticString)
    append(decimal: query.inspectedTraces)
    append(",\"inspectedBytes\":" as StaticString)
    append(quotedDecimal: UInt64(query.inspectedBytes))
    append(",\"inspectedSpans\":" as StaticString)
    append(quotedDecimal: UInt64(query.inspectedSpans))
    append(
      query.isCut
        ? ",\"completedJobs\":0,\"totalJobs\":1}" as StaticString : ",\"completedJobs\":1,\"totalJobs\":1}")
    if query.isCut {
      append(",\"status\":\"PARTIAL\",\"message\":" as StaticString)
      append(jsonString: query.cause.isEmpty ? "the time for one query is over" : query.cause)
    }
    append(UInt8(ascii: "}"))
  }

  /// Appends one series; nothing marks where a value is missing.
  mutating func append(series line: MetricsLine, _ intervals: MetricsIntervals, isInstant: Bool) {
    append("{\"labels\":[" as StaticString)
    append(line.labels)
    append(UInt8(ascii: "]"))
    if isInstant {
      append(",\"value\":" as StaticString)
      append(protobufDouble: line.value(0))
    } else {
      append(",\"samples\":" as StaticString)
      var list = JSONList()
      for interval in 0..<intervals.count {
        let number = line.value(interval)
        if number.isNaN { continue }
        list.next(&self)
        append("{\"timestampMs\":" as StaticString)
        append(quotedDecimal: intervals.milliseconds(interval))
        append(",\"value\":" as StaticString)
        append(protobufDouble: number)
        append(UInt8(ascii: "}"))
      }
      list.end(&self)
    }
    append(",\"promLabels\":" as StaticString)
    append(jsonString: line.prom)
    append(UInt8(ascii: "}"))
  }

  /// Appends a label, behind those before it, and returns its value as Prometheus has it; nil, and nothing is appended,
  /// for what is no single value. Texts are cut at `bytesMax`.
  mutating func append(label name: String, _ value: SpanValue, bytesMax: Int = .max) -> String? {
    func write(_ attribute: AttributeValue, _ out: inout ByteBuffer) {
      if !out.isEmpty { out.append(UInt8(ascii: ",")) }
      var name = name
      name.withUTF8 { out.append(key: UnsafeRawBufferPointer($0), value: attribute) }
    }
    func write(_ word: String, _ out: inout ByteBuffer) -> String {
      var text = word
      text.withUTF8 { write(.string(UnsafeRawBufferPointer($0)), &out) }
      return word
    }
    switch value {
    case .none, .array: return nil
    case .string(let text):
      let cut = UnsafeRawBufferPointer(rebasing: text.prefix(bytesMax))
      write(.string(cut), &self)
      return cut.isEmpty ? "<empty>" : cut.text
    case .bool(let flag):
      write(.bool(flag), &self)
      return flag ? "true" : "false"
    case .int(let number):
      write(.int(number), &self)
      return String(number)
    case .double(let number):
      write(.double(number), &self)
      return number.shortest
    case .duration(let length): return write("\(length)ns", &self)
    case .status(let code): return write(SpanNames.status(code), &self)
    case .kind(let kind): return write(SpanNames.kind(kind), &self)
    }
  }
}

extension MetricsSeries {
  /// What is shown of it: one series, or one for each power of two or quantile.
  func lines(_ query: MetricsQuery) -> [MetricsLine] {
    var lines: [MetricsLine] = []
    func add(_ own: (name: String, value: SpanValue)?, _ value: @escaping (Int) -> Double) {
      var names = names
      var json = ByteBuffer()
      json.append(labels)
      if let own, let text = json.append(label: own.name, own.value) {
        names.append((own.name, text))
      } else if names.isEmpty, let text = nameless(query, into: &json) {
        names.append(text)
      }
      lines.append(MetricsLine(labels: json.bytes, prom: names.prometheus, value: value))
    }
    switch query.function.kind {
    case .rate:
      let seconds = Double(query.intervals.step) / 1e9
      add(nil) { (self.rows[0]?.values[$0] ?? 0) / seconds }
    case .count: add(nil) { self.rows[0]?.values[$0] ?? 0 }
    case .aggregate(let aggregate, _):
      add(nil) { interval in
        guard let row = self.rows[0] else { return .nan }
        return aggregate == .avg ? row.values[interval] / Double(row.counts[interval]) : row.values[interval]
      }
    case .histogram(let field):
      for (exponent, row) in rows {
        add(("__bucket", .double(field.bucketEnd(exponent)))) { row.values[$0] }
      }
    case .quantiles(let field, let quantiles):
      let buckets = rows.sorted { $0.key < $1.key }.map { (end: field.bucketEnd($0.key), row: $0.value) }
      for share in quantiles {
        add(("p", .double(share))) { interval in
          Self.quantile(share, of: buckets.map { ($0.end, $0.row.values[interval]) })
        }
      }
    case .compare: break
    }
    return lines
  }

  /// The label of a series that has none: the function's name, or that its spans have nothing of what is grouped by.
  private func nameless(_ query: MetricsQuery, into out: inout ByteBuffer) -> (name: String, value: String)? {
    guard let group = query.function.groups.first else {
      return named("__name__", query.function.name, into: &out).map { ("__name__", $0) }
    }
    return named(group.labelName, "nil", into: &out).map { _ in (group.labelName, "<nil>") }
  }

  private func named(_ name: String, _ text: String, into out: inout ByteBuffer) -> String? {
    var text = text
    return text.withUTF8 { out.append(label: name, .string(UnsafeRawBufferPointer($0))) }
  }

  /// The value below which `share` of the counted ones lie, interpolated between powers of two as Tempo does; 0 where
  /// nothing was counted. `buckets` are ascending.
  static func quantile(_ share: Double, of buckets: [(end: Double, count: Double)]) -> Double {
    let filled = buckets.filter { $0.count > 0 }
    let total = filled.reduce(0) { $0 + $1.count }
    guard total > 0 else { return 0 }
    // Rounded up, and one value at least: better for few of them.
    let wanted = max((share * total).rounded(.up), 1)
    var below = 0.0
    for (index, bucket) in filled.enumerated() {
      if below + bucket.count < wanted {
        below += bucket.count
        continue
      }
      if below + bucket.count == wanted { return bucket.end }
      let upper = log2(bucket.end)
      let lower = index > 0 ? log2(filled[index - 1].end) : upper - 1
      return exp2(lower + (upper - lower) * (wanted - below) / bucket.count)
    }
    return filled.last?.end ?? 0
  }
}

extension SpanField {
  /// The largest value of a power of two; lengths of time in seconds.
  fileprivate func bucketEnd(_ exponent: Int) -> Double {
    switch self {
    case .intrinsic(.duration), .intrinsic(.traceDuration), .intrinsic(.eventTime):
      exp2(Double(exponent)) / 1e9
    default: exp2(Double(exponent))
    }
  }
}

extension [(name: String, value: String)] {
  /// As Prometheus writes labels: sorted, and names that are none of its own in quotes.
  var prometheus: String {
    let labels = sorted { $0.name < $1.name }.map { label in
      let isPlain =
        label.name.utf8.allSatisfy { byte in
          byte == UInt8(ascii: "_") || (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte | 0x20)
        } && label.name.utf8.first.map { !(0x30...0x39).contains($0) } ?? false
      return "\(isPlain ? label.name : label.name.inQuotes)=\(label.value.inQuotes)"
    }
    return "{\(labels.joined(separator: ", "))}"
  }
}

extension String {
  /// As Go quotes it, but for what lies beyond ASCII, which stays as it is.
  fileprivate var inQuotes: String {
    var text = "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.value < 0x20 || scalar.value == 0x7f:
        text += "\\x" + (scalar.value < 16 ? "0" : "") + Swift.String(scalar.value, radix: 16)
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text + "\""
  }
}

extension Double {
  /// The shortest text that reads back as it, whole numbers without a point.
  fileprivate var shortest: String {
    self == rounded() && magnitude < 1e15 ? String(Int(self)) : description
  }
}
