// What Python's operators and built-ins say of a value: truth, equality, order, kind.

extension JinjaValue {
  /// How many containers lie within one another here.
  var depth: Int {
    switch self {
    case .list(let list): list.depth
    case .dict(let dict): dict.depth
    case .view(let view): view.dict.depth + 1
    case .generator(let generator): generator.depth
    case .method(let method): method.value.depth + 1
    default: 0
    }
  }

  /// About how much there is to walk through when this is printed or compared: elements, and text by the 16 bytes. What
  /// is held in two places counts twice, so that no walk takes longer than its weight says.
  var weight: Int {
    switch self {
    case .string(let text): 1 + text.count >> 4
    case .list(let list): list.weight
    case .dict(let dict): dict.weight
    case .view(let view): JinjaValue.sum(view.dict.weight, view.dict.count)
    case .generator(let generator): generator.weight
    case .method(let method): method.value.weight
    default: 1
    }
  }

  static func sum(_ left: Int, _ right: Int) -> Int {
    let (sum, overflowed) = left.addingReportingOverflow(right)
    return overflowed ? .max : sum
  }

  /// Depth and weight of a container of `items`.
  static func measure(_ items: [JinjaValue]) -> (depth: Int, weight: Int) {
    var depth = 0
    var weight = 1
    for item in items {
      depth = max(depth, item.depth)
      weight = sum(weight, item.weight)
    }
    return (depth + 1, weight)
  }

  /// `bool(value)`.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let flag): flag
    case .int(let number): number != 0
    case .double(let number): number != 0
    case .string(let text): !text.isEmpty
    case .list(let list): !list.items.isEmpty
    case .dict(let dict): dict.count > 0
    case .view(let view): view.dict.count > 0
    case .range(let range): range.count > 0
    case .loop(let loop): !loop.items.isEmpty
    default: true
    }
  }

  var isUndefined: Bool {
    if case .undefined = self { return true }
    return false
  }

  var isNone: Bool {
    if case .none = self { return true }
    return false
  }

  /// The text of a string; nil for other kinds.
  var text: JinjaText? {
    if case .string(let text) = self { return text }
    return nil
  }

  /// The number of an integer or a boolean, which is one in Python.
  var integer: Int? {
    switch self {
    case .int(let number): number
    case .bool(let flag): flag ? 1 : 0
    default: nil
    }
  }

  /// The value of any number.
  var number: Double? {
    if case .double(let number) = self { return number }
    return integer.map { Double($0) }
  }

  /// `left == right`. The depth of values is bounded where they are made, so the recursion is as well.
  func isEqual(_ other: JinjaValue) -> Bool {
    switch (self, other) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.string(let left), .string(let right)): return left.equals(right)
    case (.bigInteger(let left), .bigInteger(let right)): return left.equals(right)
    case (.list(let left), .list(let right)):
      return left.isTuple == right.isTuple && left.items.count == right.items.count
        && zip(left.items, right.items).allSatisfy { $0.isEqual($1) }
    case (.dict(let left), .dict(let right)): return JinjaValue.areEqual(left, right)
    case (.range(let left), .range(let right)):
      return left.count == right.count
        && (left.count == 0 || left.start == right.start && (left.count == 1 || left.step == right.step))
    case (.namespace(let left), .namespace(let right)): return left === right
    case (.macro(let left), .macro(let right)): return left === right
    case (.loop(let left), .loop(let right)): return left === right
    case (.generator(let left), .generator(let right)): return left === right
    case (.function(let left), .function(let right)): return left == right
    default:
      if let left = integer, let right = other.integer { return left == right }
      if let left = number, let right = other.number { return left == right }
      return false
    }
  }

  private static func areEqual(_ left: JinjaDict, _ right: JinjaDict) -> Bool {
    if left === right { return true }
    guard left.count == right.count else { return false }
    for position in 0..<left.count {
      guard let value = right.value(left.keys[position]), left.values[position].isEqual(value) else {
        return false
      }
    }
    return true
  }

  /// `left < right` where Python can tell; nil where it raises.
  func isLess(than other: JinjaValue) -> Bool? {
    if let left = integer, let right = other.integer { return left < right }
    if let left = number, let right = other.number { return left < right }
    switch (self, other) {
    case (.string(let left), .string(let right)): return left.isLess(than: right)
    case (.list(let left), .list(let right)) where left.isTuple == right.isTuple:
      for (one, two) in zip(left.items, right.items) where !one.isEqual(two) { return one.isLess(than: two) }
      return left.items.count < right.items.count
    default: return nil
    }
  }

  /// True where Python can use it as a key.
  var isHashable: Bool {
    switch self {
    case .list(let list): list.isTuple && list.items.allSatisfy { $0.isHashable }
    case .dict, .view, .namespace: false
    default: true
    }
  }

  /// The name of the value's Python type, for messages.
  var typeName: StaticString {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .int, .bigInteger: "int"
    case .double: "float"
    case .string: "str"
    case .list(let list): list.isTuple ? "tuple" : "list"
    case .dict: "dict"
    case .view(let view):
      switch view.kind {
      case .keys: "dict_keys"
      case .values: "dict_values"
      case .items: "dict_items"
      }
    case .generator: "generator"
    case .range: "range"
    case .namespace: "Namespace"
    case .loop: "LoopContext"
    case .macro: "Macro"
    case .function: "function"
    case .method: "builtin_function_or_method"
    case .cycler: "Cycler"
    case .joiner: "Joiner"
    }
  }
}
