// One trace as a query sees it: its spans in place, and what is known of the whole.

internal import Base
internal import Protobuf
internal import Telemetry

/// The spans of one trace. Valid until the store changes.
struct TraceView {
  let trace: StoredTrace
  let spans: [SpanView]
  /// The root among `spans`: without a parent, and the earliest of several. Nil while it has not come.
  let root: Int?
  /// What looking at it is charged to. Once that is spent no field holds anything, so that a query ends soon.
  let budget: SearchBudget?
  private let parents = ParentPlaces()

  init(_ trace: StoredTrace, budget: SearchBudget? = nil) {
    self.trace = trace
    self.budget = budget
    let spans = trace.spans()
    self.spans = spans
    root = spans.indices.filter { spans[$0].parentID == 0 }.min { spans[$0].start < spans[$1].start }
  }

  /// Charges work to the budget; false when that is spent.
  func spend(_ work: Int) -> Bool { budget?.spend(work) ?? true }

  /// The value of `field` on the span at `index`. Of a field that a span can have several of (events, links) the one
  /// that `accepts` is given, else the last.
  func holds(_ field: SpanField, _ index: Int, _ accepts: (SpanValue) -> Bool) -> Bool {
    let span = spans[index]
    guard spend(64 + span.message.count) else { return false }
    switch field {
    case .intrinsic(let intrinsic): return holds(intrinsic, span, accepts)
    case .parent(let scope, let name):
      guard let parent = parents.place(of: span.parentID, in: self) else { return accepts(.none) }
      return holds(.attribute(scope, name), parent, accepts)
    case .attribute(let scope, let name):
      return name.withUnsafeBytes { name in
        switch scope {
        case .any:
          if let value = AttributeReader.value(of: name, in: span.message, field: 9) {
            return accepts(SpanValue(value))
          }
          return accepts(value(of: name, in: span.origin.resource, field: 1))
        case .span: return accepts(value(of: name, in: span.message, field: 9))
        case .resource: return accepts(value(of: name, in: span.origin.resource, field: 1))
        case .instrumentation: return accepts(value(of: name, in: span.origin.scope ?? OTLP.none, field: 3))
        case .event: return anyOf(span, 11, accepts) { self.value(of: name, in: $0, field: 3) }
        case .link: return anyOf(span, 13, accepts) { self.value(of: name, in: $0, field: 4) }
        }
      }
    }
  }

  private func value(
    of name: UnsafeRawBufferPointer, in message: UnsafeRawBufferPointer, field: Int
  ) -> SpanValue {
    AttributeReader.value(of: name, in: message, field: field).map(SpanValue.init) ?? .none
  }

  /// True when `accepts` takes what `read` finds in one of the messages under `field`; a span without any has none.
  private func anyOf(
    _ span: SpanView, _ field: Int, _ accepts: (SpanValue) -> Bool,
    _ read: (UnsafeRawBufferPointer) -> SpanValue
  ) -> Bool {
    var isEmpty = true
    var found = false
    OTLP.forEach(span.message) { part in
      guard part.number == field, !found, let message = part.bytes else { return }
      let value = read(message)
      if case .none = value { return }
      isEmpty = false
      found = accepts(value)
    }
    return found || (isEmpty && accepts(.none))
  }

  private func holds(_ intrinsic: Intrinsic, _ span: SpanView, _ accepts: (SpanValue) -> Bool) -> Bool {
    switch intrinsic {
    case .name: accepts(.string(span.name))
    case .duration: accepts(.duration(span.duration))
    case .status: accepts(.status(span.statusCode))
    case .kind: accepts(.kind(span.kind))
    case .statusMessage: accepts(.string(span.statusMessage))
    case .rootName: accepts(root.map { .string(spans[$0].name) } ?? .none)
    case .rootServiceName: Self.text(root.map { spans[$0].origin.serviceName }, accepts)
    case .traceDuration: accepts(.duration(trace.duration))
    case .nestedSetParent: accepts(.int(span.parentID == 0 ? -1 : 0))
    case .traceID: Self.text(Self.text(trace.id), accepts)
    case .spanID: Self.text(Hex.string(span.spanID), accepts)
    case .parentID: Self.text(span.parentID == 0 ? nil : Hex.string(span.parentID), accepts)
    case .eventName: anyOf(span, 11, accepts) { OTLP.bytes(in: $0, field: 2).map(SpanValue.string) ?? .none }
    case .eventTime:
      anyOf(span, 11, accepts) { event in
        var time: UInt64 = 0
        OTLP.forEach(event) { if $0.number == 1 { time = $0.fixed64 ?? time } }
        return .duration(time > span.start ? time - span.start : 0)
      }
    case .linkTraceID: linked(span, 1, accepts)
    case .linkSpanID: linked(span, 2, accepts)
    case .scopeName: accepts(scopeText(span, 1))
    case .scopeVersion: accepts(scopeText(span, 2))
    }
  }

  private func scopeText(_ span: SpanView, _ field: Int) -> SpanValue {
    span.origin.scope.flatMap { OTLP.bytes(in: $0, field: field) }.map(SpanValue.string) ?? .none
  }

  private static func text(_ text: String?, _ accepts: (SpanValue) -> Bool) -> Bool {
    guard var text else { return accepts(.none) }
    return text.withUTF8 { accepts(.string(UnsafeRawBufferPointer($0))) }
  }

  private func linked(_ span: SpanView, _ field: Int, _ accepts: (SpanValue) -> Bool) -> Bool {
    var found = false
    OTLP.forEach(span.message) { part in
      guard part.number == 13, !found, let link = part.bytes, let id = OTLP.bytes(in: link, field: field)
      else { return }
      var hex = ByteBuffer(capacity: 32)
      for byte in id {
        hex.append(Hex.digit(byte >> 4))
        hex.append(Hex.digit(byte & 15))
      }
      found = accepts(.string(hex.readable))
    }
    return found
  }

  /// 32 lowercase digits.
  static func text(_ id: TraceID) -> String { Hex.string(id.high) + Hex.string(id.low) }
}

/// Where the spans of one trace stand, by their ids: found out when a query first asks for a parent.
private final class ParentPlaces {
  private var places: [UInt64: Int]?

  func place(of id: UInt64, in view: TraceView) -> Int? {
    guard id != 0 else { return nil }
    if let places { return places[id] }
    var found: [UInt64: Int] = [:]
    if view.spend(64 * view.spans.count) {
      for (index, span) in view.spans.enumerated() { found[span.spanID] = index }
    }
    places = found
    return found[id]
  }
}
