// Names and values of tags that occur in the store, for completion in search forms.

package import Base
internal import JSON
internal import Protobuf

/// Distinct texts in the order in which they were met, up to a bound.
private struct DistinctTexts {
  /// Texts and bytes of one list; Tempo's answers are bounded by bytes as well.
  static let countMax = 5_000
  static let bytesMax = 1 << 20

  private(set) var texts: [[UInt8]] = []
  private var hashes: Set<UInt64> = []
  private var bytes = 0
  private let countMax: Int

  init(limit: Int) { countMax = limit > 0 ? min(limit, Self.countMax) : Self.countMax }

  var isFull: Bool { texts.count >= countMax || bytes >= Self.bytesMax }

  /// The seed may be known: the worst that a collision does is to hide one completion.
  mutating func insert(_ text: UnsafeRawBufferPointer) {
    guard !isFull, hashes.insert(XXH3.hash(text, seed: 3_200)).inserted else { return }
    texts.append(Array(text))
    bytes += text.count
  }
}

/// A value with its type, as the second version of the API tells it.
private struct TypedValues {
  private(set) var lists: [(type: StaticString, texts: DistinctTexts)]

  init(limit: Int) {
    lists = (["string", "int", "float", "bool", "duration", "keyword"] as [StaticString]).map {
      ($0, DistinctTexts(limit: limit))
    }
  }

  mutating func insert(_ value: SpanValue) {
    switch value {
    case .none: break
    case .string(let text): lists[0].texts.insert(text)
    case .int(let number): insert(String(number), 1)
    case .double(let number): insert(number.description, 2)
    case .bool(let flag): insert(flag ? "true" : "false", 3)
    case .duration(let length): insert("\(length)ns", 4)
    case .status(let code): insert(SpanNames.status(code), 5)
    case .kind(let kind): insert(SpanNames.kind(kind), 5)
    case .array(let content):
      AttributeValue.forEachElement(of: content) { element in
        if case .array = element { return }
        insert(SpanValue(element))
      }
    }
  }

  private mutating func insert(_ text: String, _ list: Int) {
    var text = text
    text.withUTF8 { lists[list].texts.insert(UnsafeRawBufferPointer($0)) }
  }
}

/// Which traces and how many names or values a tag request is about.
package struct TagRequest {
  /// Wall-clock nanoseconds that a trace must touch; nil is any time.
  package var range: ClosedRange<UInt64>?
  /// What looking through the traces is charged to; what is found when it is spent is answered.
  var budget: SearchBudget?
  /// Most entries of the answer; 0 is the store's own bound.
  package var limit = 0
  /// Values are taken from spans that match this; nil is all.
  package var query: TraceQLQuery?

  /// All traces, up to the store's own bound.
  package init() {}
}

extension SpanStore {
  /// Scopes in the order in which Tempo lists them, and where their attributes are.
  private static let scopes: [(name: StaticString, scope: AttributeScope)] = [
    ("resource", .resource), ("span", .span), ("event", .event), ("link", .link),
    ("instrumentation", .instrumentation),
  ]

  /// Answers `GET /api/search/tags`, the first version.
  package func writeTagNames(_ request: TagRequest, scope: String?, into out: inout ByteBuffer) {
    var names: [[UInt8]] = []
    for (name, texts) in tagNames(request) where scope == nil || scope == "\(name)" { names += texts }
    if scope == "intrinsic" { names = Self.intrinsicNames }
    out.append("{\"tagNames\":" as StaticString)
    out.append(texts: Set(names).sorted { $0.lexicographicallyPrecedes($1) })
    out.append(",\"metrics\":{}}" as StaticString)
  }

  /// Answers `GET /api/v2/search/tags`.
  package func writeScopedTagNames(_ request: TagRequest, scope: String?, into out: inout ByteBuffer) {
    out.append("{\"scopes\":" as StaticString)
    var list = JSONList()
    func write(_ name: StaticString, _ texts: [[UInt8]], _ out: inout ByteBuffer) {
      guard !texts.isEmpty, scope == nil || scope == "none" || scope == "\(name)" else { return }
      list.next(&out)
      out.append("{\"name\":\"" as StaticString)
      out.append(name)
      out.append("\",\"tags\":" as StaticString)
      out.append(texts: texts)
      out.append(UInt8(ascii: "}"))
    }
    for (name, texts) in tagNames(request) {
      write(name, texts.sorted { $0.lexicographicallyPrecedes($1) }, &out)
    }
    write("intrinsic", Self.intrinsicNames, &out)
    list.end(&out)
    out.append(",\"metrics\":{}}" as StaticString)
  }

  private static var intrinsicNames: [[UInt8]] {
    Intrinsic.allCases.map { Array($0.rawValue.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
  }

  private func tagNames(_ request: TagRequest) -> [(StaticString, [[UInt8]])] {
    var names = Self.scopes.map { _ in DistinctTexts(limit: request.limit) }
    forEachTrace(request) { trace in
      for group in trace.groups {
        AttributeReader.forEach(in: group.origin.resource, field: 1) { key, _ in names[0].insert(key) }
        AttributeReader.forEach(in: group.origin.scope ?? OTLP.none, field: 3) { key, _ in
          names[4].insert(key)
        }
        OTLP.forEach(group.entries.readable) { entry in
          guard let span = entry.bytes else { return }
          AttributeReader.forEach(in: span, field: 9) { key, _ in names[1].insert(key) }
          OTLP.forEach(span) { part in
            guard let message = part.bytes else { return }
            if part.number == 11 {
              AttributeReader.forEach(in: message, field: 3) { key, _ in names[2].insert(key) }
            } else if part.number == 13 {
              AttributeReader.forEach(in: message, field: 4) { key, _ in names[3].insert(key) }
            }
          }
        }
      }
      return true
    }
    return zip(Self.scopes, names).map { ($0.name, $1.texts) }
  }

  /// Answers `GET /api/search/tag/{name}/values`, the first version: an attribute of any scope, or an intrinsic.
  package func writeTagValues(_ name: [UInt8], _ request: TagRequest, into out: inout ByteBuffer) {
    let text = String(decoding: name, as: UTF8.self)
    // `status.code` and `name` name what every span has; anything else is an attribute.
    let field: SpanField =
      if let intrinsic = Intrinsic(text) { .intrinsic(intrinsic) } else { .attribute(.any, name) }
    out.append("{\"tagValues\":" as StaticString)
    var texts: [[UInt8]] = []
    let (values, inspected) = tagValues(field, request)
    for list in values.lists { texts += list.texts.texts }
    out.append(texts: texts.sorted { $0.lexicographicallyPrecedes($1) })
    out.append(metricsOf: inspected)
  }

  /// Answers `GET /api/v2/search/tag/{name}/values`, where the name is as in a query.
  package func writeTypedTagValues(
    _ name: [UInt8], _ request: TagRequest, into out: inout ByteBuffer
  ) throws(TraceQLError) {
    let field = try TraceQLParser.field(name)
    let (values, inspected) = tagValues(field, request)
    out.append("{\"tagValues\":" as StaticString)
    var list = JSONList()
    for (type, texts) in values.lists {
      for text in texts.texts.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
        list.next(&out)
        out.append("{\"type\":\"" as StaticString)
        out.append(type)
        out.append("\",\"value\":" as StaticString)
        text.withUnsafeBytes { out.append(jsonString: $0) }
        out.append(UInt8(ascii: "}"))
      }
    }
    list.end(&out)
    out.append(metricsOf: inspected)
  }

  private func tagValues(_ field: SpanField, _ request: TagRequest) -> (TypedValues, inspected: Int) {
    var values = TypedValues(limit: request.limit)
    var inspected = 0
    // Times have as many values as there are spans: nobody picks one from a list.
    switch field {
    case .intrinsic(.duration), .intrinsic(.traceDuration), .intrinsic(.eventTime): return (values, 0)
    default: break
    }
    forEachTrace(request) { trace in
      inspected += trace.bytes
      let view = TraceView(trace, budget: request.budget)
      let indexes = request.query.map { $0.matches(in: view) } ?? Array(view.spans.indices)
      for index in indexes {
        // False, so that each event and link is asked.
        _ = view.holds(field, index) { value in
          values.insert(value)
          return false
        }
      }
      return !values.lists[0].texts.isFull
    }
    return (values, inspected)
  }

  private func forEachTrace(_ request: TagRequest, _ body: (StoredTrace) -> Bool) {
    forEachNewest { trace in
      guard trace.spanCount > 0 else { return true }
      if let range = request.range,
        trace.end < range.lowerBound || trace.startTime > range.upperBound
      {
        return true
      }
      return request.budget?.spend(trace.bytes) ?? true && body(trace)
    }
  }
}

extension ByteBuffer {
  fileprivate mutating func append(texts: [[UInt8]]) {
    var list = JSONList()
    for text in texts {
      list.next(&self)
      text.withUnsafeBytes { append(jsonString: $0) }
    }
    list.end(&self)
  }

  fileprivate mutating func append(metricsOf inspected: Int) {
    if inspected > 0 {
      append(",\"metrics\":{\"inspectedBytes\":\"" as StaticString)
      append(decimal: inspected)
      append("\"}}" as StaticString)
    } else {
      append(",\"metrics\":{}}" as StaticString)
    }
  }
}
