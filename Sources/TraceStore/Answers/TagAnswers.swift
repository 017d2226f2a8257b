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

/// The names of attributes, by scope.
final class TagNames: StoreQuery {
  /// Scopes in the order in which Tempo lists them, and the intrinsics, whose names are known.
  private static let scopes: [StaticString] = ["resource", "span", "event", "link", "instrumentation"]

  /// Which of Tempo's two answers is wanted.
  enum Form {
    case flat, byScope
  }

  private let request: TagRequest
  private let form: Form
  private let scope: String?
  private var names: [DistinctTexts]
  var isCut = false

  init(_ request: TagRequest, _ form: Form, scope: String?) {
    self.request = request
    self.form = form
    self.scope = scope
    names = Self.scopes.map { _ in DistinctTexts(limit: request.limit) }
  }

  var range: ClosedRange<UInt64>? { request.range }
  var budget: SearchBudget? { request.budget }

  func look(at trace: StoredTrace) -> Bool {
    for group in trace.groups {
      AttributeReader.forEach(in: group.origin.resource, field: 1) { key, _ in names[0].insert(key) }
      AttributeReader.forEach(in: group.origin.scope ?? OTLP.none, field: 3) { key, _ in
        names[4].insert(key)
      }
      OTLP.forEach(group.entries.readable) { entry in
        guard let span = entry.bytes, budget?.spend(span.count) ?? true else { return }
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

  func write(into out: inout ByteBuffer) {
    switch form {
    case .flat: writeFlat(into: &out)
    case .byScope: writeByScope(into: &out)
    }
  }

  private func writeFlat(into out: inout ByteBuffer) {
    var all: [[UInt8]] = []
    for (name, texts) in zip(Self.scopes, names) where scope == nil || scope == "\(name)" {
      all += texts.texts
    }
    if scope == "intrinsic" { all = Self.intrinsicNames }
    out.append("{\"tagNames\":" as StaticString)
    out.append(texts: Set(all).sorted { $0.lexicographicallyPrecedes($1) })
    out.append(",\"metrics\":{}}" as StaticString)
  }

  private func writeByScope(into out: inout ByteBuffer) {
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
    for (name, texts) in zip(Self.scopes, names) {
      write(name, texts.texts.sorted { $0.lexicographicallyPrecedes($1) }, &out)
    }
    write("intrinsic", Self.intrinsicNames, &out)
    list.end(&out)
    out.append(",\"metrics\":{}}" as StaticString)
  }

  private static var intrinsicNames: [[UInt8]] {
    Intrinsic.allCases.map { Array($0.rawValue.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
  }
}

/// The values that one field has.
final class TagValues: StoreQuery {
  private let field: SpanField
  private let request: TagRequest
  private let isTyped: Bool
  private var values: TypedValues
  private var inspectedBytes = 0
  var isCut = false

  /// For the first version of the API: an attribute of any scope, or an intrinsic.
  init(_ name: [UInt8], _ request: TagRequest) {
    // `status.code` and `name` name what every span has; anything else is an attribute.
    field =
      Intrinsic(String(decoding: name, as: UTF8.self)).map(SpanField.intrinsic) ?? .attribute(.any, name)
    self.request = request
    isTyped = false
    values = TypedValues(limit: request.limit)
  }

  /// For the second version, where the name is as in a query, and values have their types.
  init(typed name: [UInt8], _ request: TagRequest) throws(TraceQLError) {
    field = try TraceQLParser.field(name)
    self.request = request
    isTyped = true
    values = TypedValues(limit: request.limit)
  }

  var range: ClosedRange<UInt64>? { request.range }
  var budget: SearchBudget? { request.budget }

  func look(at trace: StoredTrace) -> Bool {
    // Times have as many values as there are spans: nobody picks one from a list.
    switch field {
    case .intrinsic(.duration), .intrinsic(.traceDuration), .intrinsic(.eventTime): return false
    default: break
    }
    inspectedBytes += trace.bytes
    let view = TraceView(trace, budget: budget)
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

  func write(into out: inout ByteBuffer) {
    out.append("{\"tagValues\":" as StaticString)
    if isTyped {
      writeTyped(into: &out)
    } else {
      let texts = values.lists.flatMap(\.texts.texts)
      out.append(texts: texts.sorted { $0.lexicographicallyPrecedes($1) })
    }
    out.append(metricsOf: inspectedBytes)
  }

  private func writeTyped(into out: inout ByteBuffer) {
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
  }
}

extension SpanStore {
  /// Answers `GET /api/search/tags`, the first version, in one go.
  package func writeTagNames(_ request: TagRequest, scope: String?, into out: inout ByteBuffer) {
    answer(TagNames(request, .flat, scope: scope), into: &out)
  }

  /// Answers `GET /api/v2/search/tags` in one go.
  package func writeScopedTagNames(_ request: TagRequest, scope: String?, into out: inout ByteBuffer) {
    answer(TagNames(request, .byScope, scope: scope), into: &out)
  }

  /// Answers `GET /api/search/tag/{name}/values`, the first version, in one go.
  package func writeTagValues(_ name: [UInt8], _ request: TagRequest, into out: inout ByteBuffer) {
    answer(TagValues(name, request), into: &out)
  }

  /// Answers `GET /api/v2/search/tag/{name}/values` in one go.
  package func writeTypedTagValues(
    _ name: [UInt8], _ request: TagRequest, into out: inout ByteBuffer
  ) throws(TraceQLError) {
    answer(try TagValues(typed: name, request), into: &out)
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
