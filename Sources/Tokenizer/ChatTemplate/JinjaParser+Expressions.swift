// Builds the syntax tree from tokens by recursive descent: expressions, in jinja2's order of precedence.

extension JinjaParser {
  // MARK: Targets

  /// What `set`, `for` and `with` assign to: a name, a tuple of names, or an attribute of a namespace.
  mutating func target(
    withNamespace: Bool = false, end: StaticString = ""
  ) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var elements: [JinjaNodeID] = []
    var isTuple = false
    while true {
      if isTuple, current.isName(end) || current.kind == .assign || current.kind == .blockEnd { break }
      if current.kind == .leftParenthesis {
        advance()
        elements.append(
          try descend { (parser) throws(ChatTemplateError) in try parser.target(withNamespace: withNamespace)
          })
        try expect(.rightParenthesis)
      } else {
        elements.append(try simpleTarget(withNamespace: withNamespace))
      }
      guard skip(.comma) else { break }
      isTuple = true
      if current.kind == .rightParenthesis { break }
    }
    if !isTuple, let only = elements.first { return only }
    let list = program.add(list: elements)
    return try program.add(JinjaNode(kind: .tuple, line: start, a: list, b: Int32(elements.count)), elements)
  }

  private mutating func simpleTarget(withNamespace: Bool) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    let name = try expectName()
    switch name.string {
    case "true", "false", "none", "True", "False", "None": throw fail("cannot assign to '\(name.string)'")
    default: break
    }
    let node = try nameNode(name, start)
    guard withNamespace, skip(.dot) else { return node }
    let attribute = program.name(try expectName())
    return try program.add(JinjaNode(kind: .namespaceAttribute, line: start, a: node, b: attribute), [node])
  }

  func nameNode(_ name: JinjaText, _ line: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    try program.add(JinjaNode(kind: .name, line: line, a: program.name(name)))
  }

  // MARK: Expressions

  /// One expression or several with commas between them, which are a tuple. `end` is a word that may follow.
  mutating func tuple(
    withConditional: Bool = true, end: StaticString = "", inParentheses: Bool = false
  ) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var elements: [JinjaNodeID] = []
    var isTuple = false
    while true {
      if isTupleEnd(end) { break }
      elements.append(try expression(withConditional: withConditional))
      guard skip(.comma) else { break }
      isTuple = true
    }
    if !isTuple {
      if let only = elements.first { return only }
      guard inParentheses else { throw fail("an expression was expected") }
    }
    let list = program.add(list: elements)
    return try program.add(JinjaNode(kind: .tuple, line: start, a: list, b: Int32(elements.count)), elements)
  }

  private func isTupleEnd(_ end: StaticString) -> Bool {
    switch current.kind {
    case .variableEnd, .blockEnd, .rightParenthesis: true
    default: current.isName(end)
    }
  }

  mutating func expression(withConditional: Bool = true) throws(ChatTemplateError) -> JinjaNodeID {
    try descend { (parser) throws(ChatTemplateError) in
      withConditional ? try parser.conditional() : try parser.disjunction()
    }
  }

  private mutating func conditional() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var value = try disjunction()
    while skip(word: "if") {
      let test = try disjunction()
      let otherwise =
        skip(word: "else")
        ? try descend { (parser) throws(ChatTemplateError) in try parser.conditional() } : -1
      value = try program.add(
        JinjaNode(kind: .conditional, line: start, a: test, b: value, c: otherwise), [test, value, otherwise])
    }
    return value
  }

  private mutating func disjunction() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var left = try conjunction()
    while skip(word: "or") { left = try binary(.or, start, left, try conjunction()) }
    return left
  }

  private mutating func conjunction() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var left = try negation()
    while skip(word: "and") { left = try binary(.and, start, left, try negation()) }
    return left
  }

  private mutating func negation() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    guard skip(word: "not") else { return try comparison() }
    let value = try descend { (parser) throws(ChatTemplateError) in try parser.negation() }
    return try program.add(JinjaNode(kind: .not, line: start, a: value), [value])
  }

  private mutating func comparison() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    let left = try sum()
    var pairs: [Int32] = []
    var operands = [left]
    while let operation = comparisonOperator() {
      let right = try sum()
      pairs += [operation.rawValue, right]
      operands.append(right)
    }
    if pairs.isEmpty { return left }
    let list = program.add(list: pairs)
    return try program.add(
      JinjaNode(kind: .compare, line: start, a: left, b: list, c: Int32(pairs.count)), operands)
  }

  private mutating func comparisonOperator() -> JinjaComparison? {
    let operation: JinjaComparison
    switch current.kind {
    case .equal: operation = .equal
    case .notEqual: operation = .notEqual
    case .less: operation = .less
    case .lessOrEqual: operation = .lessOrEqual
    case .greater: operation = .greater
    case .greaterOrEqual: operation = .greaterOrEqual
    case .name where current.isName("in"): operation = .in
    case .name where current.isName("not") && following.isName("in"):
      advance()
      operation = .notIn
    default: return nil
    }
    advance()
    return operation
  }

  private mutating func sum() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var left = try concatenation()
    while true {
      if skip(.add) {
        left = try binary(.add, start, left, try concatenation())
      } else if skip(.subtract) {
        left = try binary(.subtract, start, left, try concatenation())
      } else {
        return left
      }
    }
  }

  private mutating func concatenation() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var parts = [try product()]
    while skip(.tilde) { parts.append(try product()) }
    if parts.count == 1 { return parts[0] }
    let list = program.add(list: parts)
    return try program.add(JinjaNode(kind: .concatenate, line: start, a: list, b: Int32(parts.count)), parts)
  }

  private mutating func product() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var left = try exponentiation()
    while true {
      let kind: JinjaNode.Kind
      switch current.kind {
      case .multiply: kind = .multiply
      case .divide: kind = .divide
      case .floorDivide: kind = .floorDivide
      case .modulo: kind = .modulo
      default: return left
      }
      advance()
      left = try binary(kind, start, left, try exponentiation())
    }
  }

  private mutating func exponentiation() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var left = try unary()
    while skip(.power) { left = try binary(.power, start, left, try unary()) }
    return left
  }

  private func binary(
    _ kind: JinjaNode.Kind, _ line: Int32, _ left: JinjaNodeID, _ right: JinjaNodeID
  ) throws(ChatTemplateError) -> JinjaNodeID {
    try program.add(JinjaNode(kind: kind, line: line, a: left, b: right), [left, right])
  }

  private mutating func unary(withFilter: Bool = true) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var node: JinjaNodeID
    if skip(.subtract) {
      let value = try descend { (parser) throws(ChatTemplateError) in try parser.unary(withFilter: false) }
      node = try program.add(JinjaNode(kind: .negative, line: start, a: value), [value])
    } else if skip(.add) {
      let value = try descend { (parser) throws(ChatTemplateError) in try parser.unary(withFilter: false) }
      node = try program.add(JinjaNode(kind: .positive, line: start, a: value), [value])
    } else {
      node = try primary()
    }
    node = try postfix(node)
    return withFilter ? try filters(node) : node
  }

  mutating func primary() throws(ChatTemplateError) -> JinjaNodeID {
    let token = current
    let start = line
    switch token.kind {
    case .name:
      advance()
      switch token.text.string {
      case "true", "True": return try constant(.bool(true), start)
      case "false", "False": return try constant(.bool(false), start)
      case "none", "None": return try constant(.none, start)
      default: return try nameNode(token.text, start)
      }
    case .string: return try string(start)
    case .integer:
      advance()
      return try constant(.int(token.integer), start)
    case .float:
      advance()
      return try constant(.double(token.double), start)
    case .leftParenthesis:
      advance()
      let value = try descend { (parser) throws(ChatTemplateError) in try parser.tuple(inParentheses: true) }
      try expect(.rightParenthesis)
      return value
    case .leftBracket: return try list(start)
    case .leftBrace: return try dict(start)
    default: throw unexpected()
    }
  }

  private func constant(_ value: JinjaValue, _ line: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    try program.add(JinjaNode(kind: .constant, line: line, a: program.add(constant: value)))
  }

  /// String literals that follow each other are one.
  private mutating func string(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    var parts: [JinjaText] = []
    while current.kind == .string {
      parts.append(current.text)
      advance()
    }
    if parts.count == 1 { return try constant(.string(parts[0]), start) }
    let room = try program.arena.allocate(parts.reduce(0) { $0 + $1.count })
    var count = 0
    for part in parts {
      (room + count).update(from: part.base, count: part.count)
      count += part.count
    }
    return try constant(.string(JinjaText(room, count)), start)
  }

  private mutating func list(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    advance()
    var elements: [JinjaNodeID] = []
    while current.kind != .rightBracket {
      if !elements.isEmpty { try expect(.comma) }
      if current.kind == .rightBracket { break }
      elements.append(try expression())
    }
    advance()
    let list = program.add(list: elements)
    return try program.add(JinjaNode(kind: .list, line: start, a: list, b: Int32(elements.count)), elements)
  }

  private mutating func dict(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    advance()
    var members: [JinjaNodeID] = []
    while current.kind != .rightBrace {
      if !members.isEmpty { try expect(.comma) }
      if current.kind == .rightBrace { break }
      members.append(try expression())
      try expect(.colon)
      members.append(try expression())
    }
    advance()
    let list = program.add(list: members)
    return try program.add(JinjaNode(kind: .dict, line: start, a: list, b: Int32(members.count)), members)
  }
}
