// What a TraceQL query says, once it is parsed: the part of Tempo's language that Grafana's search form writes.
// Source of the language: Tempo 3.0, "TraceQL"; ../docs/trace-store.md lists what is taken.

internal import Base

/// A parsed query.
package struct TraceQLQuery: Sendable {
  /// Which spans of a trace match.
  let spans: SpansetExpression
  /// What is done with them, in order.
  let stages: [PipelineStage]
  /// What a metrics query computes of them; nil for a search.
  var metrics: MetricsFunction?

  /// The fields that an answer shows for each matching span: those in conditions and in `select()`.
  var shownFields: [SpanField] {
    var fields: [SpanField] = spans.fields
    for stage in stages {
      switch stage {
      case .filter(let expression): fields += expression.fields
      case .select(let selected): fields += selected
      case .count: break
      case .aggregate(_, let field, _, _): fields.append(field)
      }
    }
    var seen: [SpanField] = []
    for field in fields where !seen.contains(field) { seen.append(field) }
    return seen
  }

  /// True for `{}` alone, which every trace matches.
  var matchesEverything: Bool {
    if case .filter(nil) = spans, stages.isEmpty { true } else { false }
  }
}

/// An expression over the spans of one trace.
indirect enum SpansetExpression: Sendable {
  /// `{ ... }`; nil is `{}`.
  case filter(FieldExpression?)
  /// Spans of both sides, when both have some.
  case and(SpansetExpression, SpansetExpression)
  case or(SpansetExpression, SpansetExpression)
  case related(SpansetExpression, SpanRelation, SpansetExpression)

  /// What its conditions ask of spans, left to right.
  fileprivate var fields: [SpanField] {
    switch self {
    case .filter(let condition): condition.map { $0.operands.flatMap(\.fields) } ?? []
    case .and(let left, let right), .or(let left, let right), .related(let left, _, let right):
      left.fields + right.fields
    }
  }
}

/// How the spans of the right side, which are the result, stand to those of the left.
enum SpanRelation: String, Sendable {
  case descendant = ">>"
  case child = ">"
  case ancestor = "<<"
  case parent = "<"
  case sibling = "~"
}

/// A step after the first spanset.
enum PipelineStage: Sendable {
  case filter(SpansetExpression)
  case select([SpanField])
  case count(Comparison, Literal)
  case aggregate(Aggregate, SpanField, Comparison, Literal)
}

/// A function over the matching spans of a trace.
enum Aggregate: String, Sendable { case avg, min, max, sum }

/// A condition on one span.
indirect enum FieldExpression: Sendable {
  case all([FieldExpression])
  case any([FieldExpression])
  case not(FieldExpression)
  case compare(Operand, Comparison, Operand)
  case matches(Operand, Pattern, isNegated: Bool)
  /// A field that must be true.
  case truth(Operand)

  /// The values that are compared or tested, left to right.
  fileprivate var operands: [Operand] {
    switch self {
    case .all(let parts), .any(let parts): parts.flatMap(\.operands)
    case .not(let part): part.operands
    case .compare(let left, _, let right): [left, right]
    case .matches(let operand, _, _), .truth(let operand): [operand]
    }
  }
}

/// An operator between two values.
enum Comparison: String, Sendable {
  case equal = "="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="

  /// The comparison with its sides exchanged.
  var mirrored: Comparison {
    switch self {
    case .equal, .notEqual: self
    case .less: .greater
    case .lessOrEqual: .greaterOrEqual
    case .greater: .less
    case .greaterOrEqual: .lessOrEqual
    }
  }
}

/// One side of a comparison.
indirect enum Operand: Sendable {
  case field(SpanField)
  case literal(Literal)
  case arithmetic(Operand, Arithmetic, Operand)

  fileprivate var fields: [SpanField] {
    switch self {
    case .field(let field): [field]
    case .literal: []
    case .arithmetic(let left, _, let right): left.fields + right.fields
    }
  }
}

/// An operator between two numbers. All are reckoned as floating point, durations in nanoseconds.
enum Arithmetic: String, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case remainder = "%"
  case power = "^"
}

/// A value written in a query.
enum Literal: Sendable {
  case string([UInt8])
  case int(Int64)
  case double(Double)
  case bool(Bool)
  /// Nanoseconds.
  case duration(Int64)
  /// 0 unset, 1 ok, 2 error.
  case status(UInt64)
  /// SpanKind.
  case kind(UInt64)
  case none
}

/// What a query asks of a span.
enum SpanField: Sendable, Equatable {
  case attribute(AttributeScope, [UInt8])
  /// An attribute of the span's parent, where that is in the trace.
  case parent(AttributeScope, [UInt8])
  case intrinsic(Intrinsic)
}

/// Where an attribute is looked for.
enum AttributeScope: String, Sendable, CaseIterable {
  /// `.name`: on the span, then on its resource.
  case any = ""
  case span, resource, event, link, instrumentation
}

/// Values that spans have without attributes, under Tempo's names.
enum Intrinsic: String, Sendable, CaseIterable {
  case name, duration, status, kind, statusMessage, rootName, rootServiceName, traceDuration
  /// -1 on roots, as in Tempo: queries ask for less than 0. The other spans' places in the tree are not numbered: 0.
  case nestedSetParent
  case traceID = "trace:id"
  case spanID = "span:id"
  case parentID = "span:parentID"
  case eventName = "event:name"
  case eventTime = "event:timeSinceStart"
  case linkTraceID = "link:traceID"
  case linkSpanID = "link:spanID"
  case scopeName = "instrumentation:name"
  case scopeVersion = "instrumentation:version"

  /// Finds an intrinsic by any name it has in queries.
  init?(_ name: String) {
    switch name {
    case "span:name": self = .name
    case "span:duration": self = .duration
    case "span:status": self = .status
    case "span:kind": self = .kind
    case "span:statusMessage": self = .statusMessage
    case "trace:rootName": self = .rootName
    case "trace:rootService": self = .rootServiceName
    case "trace:duration": self = .traceDuration
    default: self.init(rawValue: name)
    }
  }
}

/// Why a query is refused, and where.
package struct TraceQLError: Error, Equatable, CustomStringConvertible {
  /// Offset of the byte at fault, from 0.
  package let position: Int
  /// Fit for the caller.
  package let message: String

  /// As Tempo words it.
  package var description: String { "invalid TraceQL query: parse error at col \(position + 1): \(message)" }
}
