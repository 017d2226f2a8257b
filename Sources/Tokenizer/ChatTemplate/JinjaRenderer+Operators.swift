// Runs a compiled template: arithmetic, comparison and membership as Python has them.

internal import Base
internal import Glibc

extension JinjaRenderer {
  // MARK: Arithmetic

  func calculate(
    _ kind: JinjaNode.Kind, _ left: JinjaValue, _ right: JinjaValue
  ) throws(ChatTemplateError) -> JinjaValue {
    if case .undefined(let name) = left { throw undefined(name) }
    if case .undefined(let name) = right { throw undefined(name) }
    if let one = left.integer, let two = right.integer { return try calculate(kind, one, two) }
    if let one = left.number, let two = right.number { return try calculate(kind, one, two) }
    switch kind {
    case .add: return try add(left, right)
    case .multiply: return try multiply(left, right)
    case .modulo:
      if case .string(let format) = left { return .string(try PythonFormat.percent(format, right, self)) }
    default: break
    }
    throw ChatTemplateError(.type, "unsupported operand types: '\(left.typeName)' and '\(right.typeName)'")
  }

  private func calculate(_ kind: JinjaNode.Kind, _ left: Int, _ right: Int) throws(ChatTemplateError)
    -> JinjaValue
  {
    switch kind {
    case .add: return try checked(left.addingReportingOverflow(right))
    case .subtract: return try checked(left.subtractingReportingOverflow(right))
    case .multiply: return try checked(left.multipliedReportingOverflow(by: right))
    case .divide:
      guard right != 0 else { throw ChatTemplateError(.value, "division by zero") }
      return .double(Double(left) / Double(right))
    case .floorDivide:
      guard right != 0 else { throw ChatTemplateError(.value, "integer division or modulo by zero") }
      let (quotient, overflowed) = left.dividedReportingOverflow(by: right)
      let isInexact = !overflowed && quotient * right != left && (left < 0) != (right < 0)
      return try checked((isInexact ? quotient - 1 : quotient, overflowed))
    case .modulo:
      guard right != 0 else { throw ChatTemplateError(.value, "integer division or modulo by zero") }
      let (rest, overflowed) = left.remainderReportingOverflow(dividingBy: right)
      if overflowed { return .int(0) }
      return .int(rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest)
    case .power: return try power(left, right)
    default: throw ChatTemplateError(.type, "unsupported operator")
    }
  }

  private func checked(_ result: (partialValue: Int, overflow: Bool)) throws(ChatTemplateError) -> JinjaValue
  {
    if result.overflow { throw ChatTemplateError(.value, "a whole number beyond 64 bits") }
    return .int(result.partialValue)
  }

  private func power(_ left: Int, _ right: Int) throws(ChatTemplateError) -> JinjaValue {
    guard right >= 0 else {
      if left == 0 { throw ChatTemplateError(.value, "0.0 cannot be raised to a negative power") }
      return .double(pow(Double(left), Double(right)))
    }
    var result = 1
    var base = left
    var exponent = right
    while exponent > 0 {
      if exponent & 1 == 1 {
        guard case .int(let product) = try checked(result.multipliedReportingOverflow(by: base)) else {
          break
        }
        result = product
      }
      exponent >>= 1
      if exponent > 0 {
        guard case .int(let square) = try checked(base.multipliedReportingOverflow(by: base)) else { break }
        base = square
      }
    }
    return .int(result)
  }

  private func calculate(
    _ kind: JinjaNode.Kind, _ left: Double, _ right: Double
  ) throws(ChatTemplateError) -> JinjaValue {
    switch kind {
    case .add: return .double(left + right)
    case .subtract: return .double(left - right)
    case .multiply: return .double(left * right)
    case .divide, .floorDivide, .modulo:
      guard right != 0 else { throw ChatTemplateError(.value, "float division by zero") }
      if kind == .divide { return .double(left / right) }
      var rest = fmod(left, right)
      if rest != 0, (rest < 0) != (right < 0) { rest += right }
      return .double(kind == .modulo ? rest : ((left - rest) / right).rounded())
    case .power:
      guard left != 0 || right >= 0, left >= 0 || right.rounded() == right else {
        throw ChatTemplateError(.value, "a power that is no real number")
      }
      return .double(pow(left, right))
    default: throw ChatTemplateError(.type, "unsupported operator")
    }
  }

  func negate(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    if case .undefined(let name) = value { throw undefined(name) }
    if case .double(let number) = value { return .double(-number) }
    guard let number = value.integer else {
      throw ChatTemplateError(.type, "bad operand type for unary -: '\(value.typeName)'")
    }
    return try checked((0).subtractingReportingOverflow(number))
  }

  func add(_ left: JinjaValue, _ right: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    switch (left, right) {
    case (.string(let one), .string(let two)):
      if one.isMarkup || two.isMarkup {
        let (one, two) = (try escaped(one), try escaped(two))
        return .string(try join(one, two).with(flags: JinjaText.markup))
      }
      return .string(try join(one, two))
    case (.list(let one), .list(let two)) where one.isTuple == two.isTuple:
      return try makeList(one.items + two.items, isTuple: one.isTuple)
    default:
      throw ChatTemplateError(.type, "cannot add '\(left.typeName)' and '\(right.typeName)'")
    }
  }

  private func join(_ left: JinjaText, _ right: JinjaText) throws(ChatTemplateError) -> JinjaText {
    if left.isEmpty { return right }
    if right.isEmpty { return left }
    let room = try arena.allocate(left.count + right.count)
    room.update(from: left.base, count: left.count)
    (room + left.count).update(from: right.base, count: right.count)
    try stepOver(bytes: left.count + right.count)
    return JinjaText(room, left.count + right.count)
  }

  private func multiply(_ left: JinjaValue, _ right: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    switch (left, right) {
    case (.string(let text), let other), (let other, .string(let text)):
      if let times = other.integer { return .string(try repeated(text, times)) }
    case (.list(let list), let other), (let other, .list(let list)):
      guard let times = other.integer else { break }
      let (count, overflowed) = list.items.count.multipliedReportingOverflow(by: max(times, 0))
      guard !overflowed, count <= limits.memoryBytesMax / 24 else {
        throw ChatTemplateError(.outOfMemory, "a list repeated \(times) times")
      }
      try arena.charge(count * 24)
      return try makeList(
        Array(repeatElement(list.items, count: max(times, 0)).joined()), isTuple: list.isTuple)
    default: break
    }
    throw ChatTemplateError(.type, "cannot multiply '\(left.typeName)' and '\(right.typeName)'")
  }

  func repeated(_ text: JinjaText, _ times: Int) throws(ChatTemplateError) -> JinjaText {
    if times <= 0 || text.isEmpty { return .empty }
    let (count, overflowed) = text.count.multipliedReportingOverflow(by: times)
    guard !overflowed, count <= limits.memoryBytesMax else {
      throw ChatTemplateError(.outOfMemory, "a string repeated \(times) times")
    }
    let room = try arena.allocate(count)
    try stepOver(bytes: count)
    for index in 0..<times { (room + index * text.count).update(from: text.base, count: text.count) }
    return JinjaText(room, count)
  }

  // MARK: Comparison

  func compare(_ node: JinjaNode) throws(ChatTemplateError) -> Bool {
    var left = try evaluate(node.a)
    for pair in 0..<(node.c / 2) {
      guard let operation = JinjaComparison(rawValue: program.element(node.b, pair * 2)) else { return false }
      let right = try evaluate(program.element(node.b, pair * 2 + 1))
      guard try compare(operation, left, right) else { return false }
      left = right
    }
    return true
  }

  func compare(
    _ operation: JinjaComparison, _ left: JinjaValue, _ right: JinjaValue
  ) throws(ChatTemplateError) -> Bool {
    switch operation {
    case .equal: return try isEqual(left, right)
    case .notEqual: return try !isEqual(left, right)
    case .less: return try isLess(left, right)
    case .greater: return try isLess(right, left)
    case .lessOrEqual:
      if try isLess(left, right) { return true }
      return try isEqual(left, right)
    case .greaterOrEqual:
      if try isLess(right, left) { return true }
      return try isEqual(left, right)
    case .in: return try contains(right, left)
    case .notIn: return try !contains(right, left)
    }
  }

  func isEqual(_ left: JinjaValue, _ right: JinjaValue) throws(ChatTemplateError) -> Bool {
    try step(min(left.weight, right.weight) >> 2)
    return left.isEqual(right)
  }

  /// `left < right`; raises where Python does.
  func isLess(_ left: JinjaValue, _ right: JinjaValue) throws(ChatTemplateError) -> Bool {
    if case .undefined(let name) = left { throw undefined(name) }
    if case .undefined(let name) = right { throw undefined(name) }
    try step(min(left.weight, right.weight) >> 2)
    guard let isLess = left.isLess(than: right) else {
      throw ChatTemplateError(.type, "'\(left.typeName)' and '\(right.typeName)' have no order")
    }
    return isLess
  }

  /// `element in container`.
  func contains(_ container: JinjaValue, _ element: JinjaValue) throws(ChatTemplateError) -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let part) = element else {
        if case .undefined(let name) = element { throw undefined(name) }
        throw ChatTemplateError(
          .type, "'in <string>' requires string as left operand, not \(element.typeName)")
      }
      return try find(part, in: text) != nil
    case .dict(let dict):
      guard element.isHashable else {
        throw ChatTemplateError(.type, "unhashable type: '\(element.typeName)'")
      }
      return try value(element, of: dict) != nil
    case .list(let list):
      for item in list.items where try isEqual(item, element) { return true }
      try step(list.items.count >> 3)
      return false
    case .range(let range):
      guard let number = element.integer else { return false }
      let (distance, overflowed) = number.subtractingReportingOverflow(range.start)
      guard !overflowed, range.count > 0, distance % range.step == 0 else { return false }
      return (0..<range.count).contains(distance / range.step)
    default:
      for item in try elements(of: container) where try isEqual(item, element) { return true }
      return false
    }
  }
}
