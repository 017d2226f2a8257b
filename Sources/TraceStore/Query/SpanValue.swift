// What a field of a query comes to on one span, and how two such values compare.

internal import Base

/// A value found on a span, in place.
enum SpanValue {
  /// The span has no such field.
  case none
  case string(UnsafeRawBufferPointer)
  case bool(Bool)
  case int(Int64)
  case double(Double)
  case duration(UInt64)
  case status(UInt64)
  case kind(UInt64)
  /// An ArrayValue message.
  case array(UnsafeRawBufferPointer)

  init(_ value: AttributeValue) {
    self =
      switch value {
      case .string(let text): .string(text)
      case .bool(let flag): .bool(flag)
      case .int(let number): .int(number)
      case .double(let number): .double(number)
      case .array(let content): .array(content)
      case .keyValueList, .bytes: .none
      }
  }

  /// The number that comparisons and aggregates use; nil for what is no number.
  var number: Double? {
    switch self {
    case .int(let number): Double(number)
    case .double(let number): number
    case .duration(let length): Double(length)
    default: nil
    }
  }
}

extension Comparison {
  /// Whether `value` stands in this relation to `literal`. Values of different types never do, and neither does a
  /// missing one, as in Tempo; a list does when one of its elements does.
  func holds(_ value: SpanValue, _ literal: Literal) -> Bool {
    switch (value, literal) {
    case (.none, .none): return self == .equal
    case (_, .none): return self == .notEqual
    case (.none, _): return false
    case (.string(let text), .string(let wanted)):
      return wanted.withUnsafeBytes { holds(order: Self.order(text, $0)) }
    case (.bool(let flag), .bool(let wanted)): return holdsEquality(flag == wanted)
    case (.status(let code), .status(let wanted)), (.kind(let code), .kind(let wanted)):
      return holdsEquality(code == wanted)
    case (.int(let number), .int(let wanted)): return holds(order: Self.order(number, wanted))
    case (.duration(let length), .duration(let wanted)):
      return holds(order: Self.order(Int64(clamping: length), wanted))
    case (.array(let content), _):
      var any = false
      var anyEqual = false
      AttributeValue.forEachElement(of: content) { element in
        let value = SpanValue(element)
        if !any { any = holds(value, literal) }
        if !anyEqual { anyEqual = Comparison.equal.holds(value, literal) }
      }
      return self == .notEqual ? !anyEqual : any
    default:
      guard let number = value.number, let wanted = literal.number else { return false }
      return holds(order: Self.order(number, wanted))
    }
  }

  private func holdsEquality(_ isEqual: Bool) -> Bool {
    switch self {
    case .equal: isEqual
    case .notEqual: !isEqual
    default: false
    }
  }

  /// - Parameter order: below 0 when the left side is less, 0 when both are equal.
  private func holds(order: Int) -> Bool {
    switch self {
    case .equal: order == 0
    case .notEqual: order != 0
    case .less: order < 0
    case .lessOrEqual: order <= 0
    case .greater: order > 0
    case .greaterOrEqual: order >= 0
    }
  }

  private static func order(_ left: Int64, _ right: Int64) -> Int {
    left < right ? -1 : left == right ? 0 : 1
  }

  private static func order(_ left: Double, _ right: Double) -> Int {
    left < right ? -1 : left == right ? 0 : 1
  }

  private static func order(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
    if left.equals(right) { return 0 }
    return left.lexicographicallyPrecedes(right) ? -1 : 1
  }
}

extension Literal {
  /// As ``SpanValue/number``.
  var number: Double? {
    switch self {
    case .int(let number): Double(number)
    case .double(let number): number
    case .duration(let length): Double(length)
    default: nil
    }
  }
}
