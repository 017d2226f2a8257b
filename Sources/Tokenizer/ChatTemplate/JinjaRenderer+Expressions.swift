// Runs a compiled template: expressions.

internal import Base

extension JinjaRenderer {
  /// Writes an expression as `{{ }}` does. A sum or chain of strings is written piece by piece instead of being made.
  func write(expression id: JinjaNodeID) throws(ChatTemplateError) {
    if try writeParts(id) { return }
    try write(try evaluate(id))
  }

  /// Writes `id` if it is a chain or a sum; false when it is neither, and nothing was written.
  private func writeParts(_ id: JinjaNodeID) throws(ChatTemplateError) -> Bool {
    let node = program[id]
    switch node.kind {
    case .concatenate:
      try step()
      for index in 0..<node.b { try write(try evaluate(program.element(node.a, index))) }
      return true
    case .add where !program.usesMarkup:
      if let value = try writeSum(node) { try write(value) }
      return true
    default: return false
    }
  }

  /// Writes both sides when they are strings, and returns nil; else returns the sum, with nothing written.
  private func writeSum(_ node: JinjaNode) throws(ChatTemplateError) -> JinjaValue? {
    try step()
    try descend()
    let leftNode = program[node.a]
    // A left side that was written was a string. Then the right one is too, or the sum raises and no text is used.
    let left = leftNode.kind == .add ? try writeSum(leftNode) : try evaluate(node.a)
    var isWritten = left == nil
    if case .string(let text)? = left {
      output.append(text.bytes)
      isWritten = true
    }
    let right = try evaluate(node.b)
    ascend()
    guard isWritten else { return try calculate(.add, left ?? .none, right) }
    guard case .string(let text) = right else {
      if case .undefined(let name) = right { throw undefined(name) }
      throw ChatTemplateError(.type, "can only concatenate str (not \"\(right.typeName)\") to str")
    }
    output.append(text.bytes)
    try checkOutput()
    return nil
  }

  /// Writes `str(value)`.
  func write(_ value: JinjaValue) throws(ChatTemplateError) {
    if value.text == nil { try step(value.weight &* 16) }
    JinjaPrinter.append(value, to: &output)
    try checkOutput()
  }

  // MARK: Values

  func evaluate(_ id: JinjaNodeID) throws(ChatTemplateError) -> JinjaValue {
    let node = program[id]
    switch node.kind {
    case .constant: return program.constants[Int(node.a)]
    case .name: return variable(node)
    default: break
    }
    try step()
    try descend()
    let value = try evaluate(node)
    ascend()
    return value
  }

  private func variable(_ node: JinjaNode) -> JinjaValue {
    var value: JinjaValue?
    if node.b == 0 {
      value = activation.slots[Int(node.c)]
    } else {
      var owner = activation
      for _ in 0..<node.b { owner = owner.parent ?? owner }
      value = owner.slots[Int(node.c)]
    }
    return value ?? .undefined(program.names[Int(node.a)])
  }

  private func evaluate(_ node: JinjaNode) throws(ChatTemplateError) -> JinjaValue {
    switch node.kind {
    case .attribute: return try attribute(node.b, of: try evaluate(node.a))
    case .item: return try item(node)
    case .call: return try call(node, caller: nil)
    case .filter: return try evaluate(filter: node, block: nil)
    case .test: return .bool(try evaluate(test: node))
    case .not: return .bool(!(try evaluate(node.a).isTrue))
    case .and:
      let left = try evaluate(node.a)
      return left.isTrue ? try evaluate(node.b) : left
    case .or:
      let left = try evaluate(node.a)
      return left.isTrue ? left : try evaluate(node.b)
    case .conditional:
      if try evaluate(node.a).isTrue { return try evaluate(node.b) }
      return node.c >= 0 ? try evaluate(node.c) : .undefined(JinjaText("inline if without else"))
    case .compare: return .bool(try compare(node))
    case .concatenate: return try concatenate(node)
    case .tuple: return try makeList(try values(node), isTuple: true)
    case .list: return try makeList(try values(node), isTuple: false)
    case .dict: return try makeDict(node)
    // Beside a comma, as in `a[1:2, 3]`; jinja2 makes Python of it that is none.
    case .slice: throw ChatTemplateError(.syntax, "a slice stands alone between its brackets")
    case .negative: return try negate(try evaluate(node.a))
    case .positive:
      let value = try evaluate(node.a)
      guard value.number != nil else {
        throw ChatTemplateError(.type, "bad operand for unary +: \(value.typeName)")
      }
      return value.integer.map { .int($0) } ?? value
    default:
      let left = try evaluate(node.a)
      return try calculate(node.kind, left, try evaluate(node.b))
    }
  }

  private func values(_ node: JinjaNode) throws(ChatTemplateError) -> [JinjaValue] {
    var values: [JinjaValue] = []
    values.reserveCapacity(Int(node.b))
    for index in 0..<node.b { values.append(try evaluate(program.element(node.a, index))) }
    return values
  }

  private func makeDict(_ node: JinjaNode) throws(ChatTemplateError) -> JinjaValue {
    let dict = JinjaDict()
    for pair in 0..<(node.b / 2) {
      let key = try evaluate(program.element(node.a, pair * 2))
      guard key.isHashable else { throw ChatTemplateError(.type, "unhashable type: '\(key.typeName)'") }
      dict.set(key, try evaluate(program.element(node.a, pair * 2 + 1)))
    }
    try arena.charge(64 + 48 * dict.count)
    try check(depth: dict.depth, weight: dict.weight)
    return .dict(dict)
  }

  /// A list or tuple, within the bound of nesting.
  func makeList(_ items: [JinjaValue], isTuple: Bool = false, isGroup: Bool = false) throws(ChatTemplateError)
    -> JinjaValue
  {
    try arena.charge(48 + 24 * items.count)
    try step(items.count >> 3)
    let list = JinjaList(items, isTuple: isTuple, isGroup: isGroup)
    try check(depth: list.depth, weight: list.weight)
    return .list(list)
  }

  /// Elements that can be read once.
  func makeGenerator(_ items: [JinjaValue]) throws(ChatTemplateError) -> JinjaValue {
    try arena.charge(48 + 24 * items.count)
    try step(items.count >> 3)
    let generator = JinjaGenerator(items)
    try check(depth: generator.depth, weight: generator.weight)
    return .generator(generator)
  }

  /// Keeps values within the bounds that make it safe to walk through them.
  func check(depth: Int, weight: Int) throws(ChatTemplateError) {
    try checkDepth(depth)
    if weight > limits.memoryBytesMax >> 4 {
      throw ChatTemplateError(.outOfMemory, "a value that holds too much")
    }
  }

  func checkDepth(_ depth: Int) throws(ChatTemplateError) {
    if depth > limits.valueDepthMax {
      throw ChatTemplateError(.valueTooDeep, "values nest more than \(limits.valueDepthMax) deep")
    }
  }

  private func concatenate(_ node: JinjaNode) throws(ChatTemplateError) -> JinjaValue {
    .string(
      try capture { () throws(ChatTemplateError) in
        for index in 0..<node.b { try write(try evaluate(program.element(node.a, index))) }
      })
  }

  /// `str(value)`.
  func string(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaText {
    if case .string(let text) = value { return text.with(flags: 0) }
    return try capture { () throws(ChatTemplateError) in try write(value) }
  }

  // MARK: Elements

  /// What iterating over a value gives.
  func elements(of value: JinjaValue) throws(ChatTemplateError) -> [JinjaValue] {
    switch value {
    case .undefined: return []
    case .list(let list): return list.items
    case .dict(let dict): return dict.keys
    case .view(let view):
      try arena.charge(view.dict.count * 96)
      return view.items
    case .generator(let generator): return generator.takeAll()
    case .range(let range):
      try arena.charge(range.count * 24)
      try step(range.count >> 4)
      return range.items
    case .string(let text):
      try arena.charge(text.count * 24)
      try step(text.count >> 4)
      var characters: [JinjaValue] = []
      var offset = 0
      while offset < text.count {
        let end = text.end(ofCharacterAt: offset)
        characters.append(.string(text.slice(offset, end)))
        offset = end
      }
      return characters
    default: throw ChatTemplateError(.type, "'\(value.typeName)' object is not iterable")
    }
  }

  /// `len(value)`; nil where Python raises.
  func length(of value: JinjaValue) throws(ChatTemplateError) -> Int? {
    switch value {
    case .undefined: return 0
    case .string(let text):
      try stepOver(bytes: text.count)
      return text.characterCount
    case .list(let list): return list.items.count
    case .dict(let dict): return dict.count
    case .view(let view): return view.dict.count
    case .range(let range): return range.count
    case .loop(let loop): return loop.items.count
    default: return nil
    }
  }
}
