// Which spans of a trace a query matches.

internal import Base
internal import Glibc

extension TraceQLQuery {
  /// Indexes of the matching spans in `trace`, ascending; empty when the trace does not match.
  func matches(in trace: TraceView) -> [Int] {
    var matched = spans.matches(in: trace)
    for stage in stages where !matched.isEmpty {
      switch stage {
      case .select: break
      case .filter(let expression):
        let wanted = Set(expression.matches(in: trace))
        matched.removeAll { !wanted.contains($0) }
      case .count(let comparison, let literal):
        if !comparison.holds(.int(Int64(matched.count)), literal) { matched = [] }
      case .aggregate(let function, let field, let comparison, let literal):
        guard let value = function.value(of: field, over: matched, in: trace),
          comparison.holds(.double(value), literal)
        else { return [] }
      }
    }
    return matched
  }
}

extension Aggregate {
  /// The function's value over the spans that have the field; nil when none has.
  fileprivate func value(of field: SpanField, over spans: [Int], in trace: TraceView) -> Double? {
    var numbers: [Double] = []
    for index in spans {
      _ = trace.holds(field, index) { value in
        if let number = value.number { numbers.append(number) }
        return true
      }
    }
    guard !numbers.isEmpty else { return nil }
    return switch self {
    case .sum: numbers.reduce(0, +)
    case .avg: numbers.reduce(0, +) / Double(numbers.count)
    case .min: numbers.min()
    case .max: numbers.max()
    }
  }
}

extension SpansetExpression {
  fileprivate func matches(in trace: TraceView) -> [Int] {
    guard trace.spend(64 * trace.spans.count) else { return [] }
    switch self {
    case .filter(let condition):
      guard let condition else { return Array(trace.spans.indices) }
      return trace.spans.indices.filter { condition.holds(on: $0, in: trace) }
    case .and(let left, let right):
      let first = left.matches(in: trace)
      guard !first.isEmpty else { return [] }
      let second = right.matches(in: trace)
      return second.isEmpty ? [] : Self.union(first, second)
    case .or(let left, let right): return Self.union(left.matches(in: trace), right.matches(in: trace))
    case .related(let left, let relation, let right):
      let from = left.matches(in: trace)
      guard !from.isEmpty else { return [] }
      return relation.filter(right.matches(in: trace), from: from, in: trace)
    }
  }

  private static func union(_ left: [Int], _ right: [Int]) -> [Int] { Set(left).union(right).sorted() }
}

extension SpanRelation {
  /// Those of `spans` that stand in this relation to one of `from`. Linear, also where parents go in a circle.
  fileprivate func filter(_ spans: [Int], from: [Int], in trace: TraceView) -> [Int] {
    let tree = SpanTree(trace.spans)
    var isFrom = Array(repeating: false, count: trace.spans.count)
    for index in from { isFrom[index] = true }
    switch self {
    case .child: return spans.filter { tree.parent[$0].map { isFrom[$0] } ?? false }
    case .parent:
      let parents = Set(from.compactMap { tree.parent[$0] })
      return spans.filter(parents.contains)
    case .descendant:
      let below = tree.below(isFrom)
      return spans.filter { below[$0] }
    case .ancestor:
      let above = tree.above(from)
      return spans.filter { above[$0] }
    case .sibling:
      var counts: [UInt64: Int] = [:]
      for index in from { counts[trace.spans[index].parentID, default: 0] += 1 }
      return spans.filter { index in
        let parent = trace.spans[index].parentID
        return parent != 0 && counts[parent, default: 0] > (isFrom[index] ? 1 : 0)
      }
    }
  }
}

/// Who is whose parent in one trace.
private struct SpanTree {
  /// The index of each span's parent; nil where it is not in the trace.
  let parent: [Int?]

  init(_ spans: [SpanView]) {
    var places: [UInt64: Int] = [:]
    for (index, span) in spans.enumerated() { places[span.spanID] = index }
    parent = spans.map { $0.parentID == 0 ? nil : places[$0.parentID] }
  }

  /// Which spans have an ancestor that is marked.
  func below(_ marked: [Bool]) -> [Bool] {
    var answer = [Bool?](repeating: nil, count: parent.count)
    for start in parent.indices {
      var path: [Int] = []
      var index = start
      var found = false
      while answer[index] == nil {
        // Set before the walk goes on, so that a circle ends it.
        answer[index] = false
        path.append(index)
        guard let up = parent[index] else { break }
        if marked[up] {
          found = true
          break
        }
        index = up
      }
      if !found, let last = path.last, let up = parent[last], answer[up] == true { found = true }
      if found { for index in path { answer[index] = true } }
    }
    return answer.map { $0 ?? false }
  }

  /// Which spans are an ancestor of one in `spans`.
  func above(_ spans: [Int]) -> [Bool] {
    var isAbove = Array(repeating: false, count: parent.count)
    for start in spans {
      var index = start
      while let up = parent[index], !isAbove[up] {
        isAbove[up] = true
        index = up
      }
    }
    return isAbove
  }
}

extension FieldExpression {
  /// Whether it is true of the span at `index`.
  func holds(on index: Int, in trace: TraceView) -> Bool {
    switch self {
    case .all(let parts): return parts.allSatisfy { $0.holds(on: index, in: trace) }
    case .any(let parts): return parts.contains { $0.holds(on: index, in: trace) }
    case .not(let part): return !part.holds(on: index, in: trace)
    case .truth(.field(let field)):
      return trace.holds(field, index) { if case .bool(true) = $0 { true } else { false } }
    case .truth(.arithmetic): return false
    case .truth(.literal(let literal)):
      if case .bool(true) = literal { return true } else { return false }
    case .matches(let operand, let pattern, let isNegated):
      guard case .field(let field) = operand else { return false }
      return trace.holds(field, index) { value in
        switch value {
        case .string(let text):
          return trace.spend(pattern.steps(on: text)) && pattern.matches(text) != isNegated
        case .array(let content):
          var any = false
          AttributeValue.forEachElement(of: content) { element in
            if case .string(let text) = element, !any, trace.spend(pattern.steps(on: text)) {
              any = pattern.matches(text)
            }
          }
          return any != isNegated
        default: return false
        }
      }
    case .compare(.field(let field), let comparison, .literal(let literal)):
      return trace.holds(field, index) { comparison.holds($0, literal) }
    case .compare(.literal(let literal), let comparison, .field(let field)):
      return trace.holds(field, index) { comparison.mirrored.holds($0, literal) }
    case .compare(.literal(let left), let comparison, .literal(let right)):
      return left.withValue { comparison.holds($0, right) }
    case .compare(let left, let comparison, let right) where left.isArithmetic || right.isArithmetic:
      guard let left = left.number(on: index, in: trace), let right = right.number(on: index, in: trace)
      else { return false }
      return comparison.holds(.double(left), .double(right))
    case .compare(.arithmetic, _, _), .compare(_, _, .arithmetic): return false
    case .compare(.field(let left), let comparison, .field(let right)):
      return trace.holds(right, index) { value in
        guard let literal = Literal(value) else { return false }
        return trace.holds(left, index) { comparison.holds($0, literal) }
      }
    }
  }
}

extension Operand {
  fileprivate var isArithmetic: Bool { if case .arithmetic = self { true } else { false } }

  /// What it comes to on one span; nil where a part of it is no number there.
  fileprivate func number(on index: Int, in trace: TraceView) -> Double? {
    switch self {
    case .literal(let literal): return literal.number
    case .field(let field):
      var found: Double?
      _ = trace.holds(field, index) { value in
        found = value.number
        return found != nil
      }
      return found
    case .arithmetic(let left, let symbol, let right):
      guard let left = left.number(on: index, in: trace), let right = right.number(on: index, in: trace)
      else { return nil }
      let result = symbol.apply(left, right)
      return result.isFinite ? result : nil
    }
  }
}

extension Arithmetic {
  fileprivate func apply(_ left: Double, _ right: Double) -> Double {
    switch self {
    case .add: left + right
    case .subtract: left - right
    case .multiply: left * right
    case .divide: left / right
    case .remainder: left.truncatingRemainder(dividingBy: right)
    case .power: pow(left, right)
    }
  }
}

extension Literal {
  /// The value as a literal; nil where there is none.
  fileprivate init?(_ value: SpanValue) {
    switch value {
    case .none, .array: return nil
    case .string(let text): self = .string(Array(text))
    case .bool(let flag): self = .bool(flag)
    case .int(let number): self = .int(number)
    case .double(let number): self = .double(number)
    case .duration(let length): self = .duration(Int64(clamping: length))
    case .status(let code): self = .status(code)
    case .kind(let kind): self = .kind(kind)
    }
  }

  fileprivate func withValue(_ body: (SpanValue) -> Bool) -> Bool {
    switch self {
    case .string(let text): text.withUnsafeBytes { body(.string($0)) }
    case .bool(let flag): body(.bool(flag))
    case .int(let number): body(.int(number))
    case .double(let number): body(.double(number))
    case .duration(let length): body(.duration(UInt64(clamping: length)))
    case .status(let code): body(.status(code))
    case .kind(let kind): body(.kind(kind))
    case .none: body(.none)
    }
  }
}
