// Builds the syntax tree from tokens: what may follow a value: attributes, items, calls, filters and tests.

extension JinjaParser {
  mutating func postfix(_ node: JinjaNodeID) throws(ChatTemplateError) -> JinjaNodeID {
    var node = node
    while true {
      switch current.kind {
      case .dot, .leftBracket: node = try subscripted(node)
      case .leftParenthesis: node = try call(node)
      default: return node
      }
    }
  }

  /// Filters, tests and calls of what they give.
  mutating func filters(_ node: JinjaNodeID) throws(ChatTemplateError) -> JinjaNodeID {
    var node = node
    while true {
      if current.kind == .pipe {
        node = try filterChain(node)
      } else if current.isName("is") {
        node = try test(node)
      } else if current.kind == .leftParenthesis {
        node = try call(node)
      } else {
        return node
      }
    }
  }

  private mutating func subscripted(_ node: JinjaNodeID) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    if skip(.dot) {
      let token = current
      if token.kind == .integer {
        advance()
        let key = try program.add(
          JinjaNode(kind: .constant, line: start, a: program.add(constant: .int(token.integer))))
        return try program.add(JinjaNode(kind: .item, line: start, a: node, b: key), [node])
      }
      let name = program.name(try expectName())
      return try program.add(JinjaNode(kind: .attribute, line: start, a: node, b: name), [node])
    }
    try expect(.leftBracket)
    var keys: [JinjaNodeID] = []
    while current.kind != .rightBracket {
      if !keys.isEmpty { try expect(.comma) }
      keys.append(try key())
    }
    advance()
    var key = keys.first ?? -1
    if keys.count != 1 {
      let list = program.add(list: keys)
      key = try program.add(JinjaNode(kind: .tuple, line: start, a: list, b: Int32(keys.count)), keys)
    }
    return try program.add(JinjaNode(kind: .item, line: start, a: node, b: key), [node, key])
  }

  /// A key or a slice inside brackets.
  private mutating func key() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    let first = current.kind == .colon ? -1 : try expression()
    guard skip(.colon) else { return first }
    let end = try sliceBound()
    let step = skip(.colon) ? try sliceBound() : -1
    return try program.add(
      JinjaNode(kind: .slice, line: start, a: first, b: end, c: step), [first, end, step])
  }

  private mutating func sliceBound() throws(ChatTemplateError) -> JinjaNodeID {
    switch current.kind {
    case .colon, .rightBracket, .comma: -1
    default: try expression()
    }
  }

  private mutating func call(_ node: JinjaNodeID) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    let (arguments, children) = try self.arguments()
    return try program.add(JinjaNode(kind: .call, line: start, a: node, b: arguments), [node] + children)
  }

  /// One filter after another. Without a node the first works on what a block wrote; `isFirst` stands behind the word
  /// `filter`, where no pipe is.
  mutating func filterChain(_ node: JinjaNodeID, isFirst: Bool = false) throws(ChatTemplateError)
    -> JinjaNodeID
  {
    var node = node
    var isFirst = isFirst
    while isFirst || skip(.pipe) {
      isFirst = false
      let start = line
      let name = try dottedName()
      var arguments = Int32(program.arguments.count)
      var children: [JinjaNodeID] = []
      if current.kind == .leftParenthesis {
        (arguments, children) = try self.arguments()
      } else {
        program.arguments.append(JinjaArguments())
      }
      let filter = JinjaFilter(rawValue: name.string)
      switch filter {
      case .safe, .escape, .e, .forceescape: program.usesMarkup = true
      default: break
      }
      node = try program.add(
        JinjaNode(kind: .filter, line: start, a: node, b: arguments, c: number(filter?.number, name)),
        [node] + children)
    }
    return node
  }

  /// The number of a known filter or test, or below -1 that of an unknown one's name: using it is the error.
  private func number(_ known: Int32?, _ name: JinjaText) -> Int32 {
    known ?? -2 - program.name(name)
  }

  private mutating func dottedName() throws(ChatTemplateError) -> JinjaText {
    var name = try expectName()
    while skip(.dot) {
      let part = try expectName()
      name = try program.arena.copy(name.string + "." + part.string)
    }
    return name
  }

  private mutating func test(_ node: JinjaNodeID) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    advance()
    let isNegated = skip(word: "not")
    let name = try dottedName()
    var arguments = Int32(program.arguments.count)
    var children: [JinjaNodeID] = []
    if current.kind == .leftParenthesis {
      (arguments, children) = try self.arguments()
    } else if hasBareArgument {
      if current.isName("is") { throw fail("tests cannot be chained with 'is'") }
      let argument = try bareArgument()
      arguments = Int32(program.arguments.count)
      program.arguments.append(JinjaArguments(start: program.add(list: [argument]), count: 1))
      children = [argument]
    } else {
      program.arguments.append(JinjaArguments())
    }
    let test = JinjaTest(rawValue: name.string)
    let id = try program.add(
      JinjaNode(kind: .test, line: start, a: node, b: arguments, c: number(test?.number, name)),
      [node] + children)
    return isNegated ? try program.add(JinjaNode(kind: .not, line: start, a: id), [id]) : id
  }

  /// True when a test is followed by an argument without parentheses, as in `is divisibleby 3`.
  private var hasBareArgument: Bool {
    switch current.kind {
    case .name: !current.isName("else") && !current.isName("or") && !current.isName("and")
    case .string, .integer, .float, .leftBracket, .leftBrace: true
    default: false
    }
  }

  private mutating func bareArgument() throws(ChatTemplateError) -> JinjaNodeID {
    try descend { (parser) throws(ChatTemplateError) in try parser.postfix(try parser.primary()) }
  }

  /// Arguments in parentheses: their number in the program, and the nodes of the values.
  private mutating func arguments() throws(ChatTemplateError) -> (Int32, [JinjaNodeID]) {
    try expect(.leftParenthesis)
    var positional: [JinjaNodeID] = []
    var keywords: [Int32] = []
    var values: [JinjaNodeID] = []
    var star: JinjaNodeID = -1
    var doubleStar: JinjaNodeID = -1
    var needsComma = false
    while current.kind != .rightParenthesis {
      if needsComma {
        try expect(.comma)
        if current.kind == .rightParenthesis { break }
      }
      needsComma = true
      if skip(.multiply) {
        guard star < 0, doubleStar < 0 else { throw fail("malformed call") }
        star = try expression()
        values.append(star)
      } else if skip(.power) {
        guard doubleStar < 0 else { throw fail("malformed call") }
        doubleStar = try expression()
        values.append(doubleStar)
      } else if current.kind == .name, following.kind == .assign {
        guard doubleStar < 0 else { throw fail("malformed call") }
        let name = program.name(current.text)
        advance()
        advance()
        let value = try expression()
        keywords += [name, value]
        values.append(value)
      } else {
        guard star < 0, doubleStar < 0, keywords.isEmpty else { throw fail("malformed call") }
        let value = try expression()
        positional.append(value)
        values.append(value)
      }
    }
    advance()
    program.arguments.append(
      JinjaArguments(
        start: program.add(list: positional), count: Int32(positional.count),
        keywordStart: program.add(list: keywords), keywordCount: Int32(keywords.count / 2), star: star,
        doubleStar: doubleStar))
    return (Int32(program.arguments.count - 1), values)
  }
}
