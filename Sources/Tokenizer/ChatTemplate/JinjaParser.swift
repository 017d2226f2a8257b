// Builds the syntax tree from tokens by recursive descent: statements.

/// A parser of jinja2's grammar with the extensions that chat templates have: `break`, `continue` and `generation`.
struct JinjaParser {
  let program: JinjaProgram
  let tokens: [JinjaToken]
  let depthMax: Int
  var position = 0
  var depth = 0
  /// How many loops of the same macro are around: `break` needs one.
  private var loopDepth = 0

  init(_ program: JinjaProgram, _ tokens: [JinjaToken], depthMax: Int) {
    self.program = program
    self.tokens = tokens
    self.depthMax = depthMax
  }

  /// The whole template as a block.
  mutating func template() throws(ChatTemplateError) -> JinjaNodeID {
    let body = try statements(until: [])
    guard current.kind == .endOfSource else { throw unexpected() }
    return body
  }

  // MARK: Tokens

  var current: JinjaToken { tokens[position] }

  var line: Int32 { Int32(current.line) }

  /// The token after the current one.
  var following: JinjaToken { tokens[min(position + 1, tokens.count - 1)] }

  mutating func advance() { if position < tokens.count - 1 { position += 1 } }

  mutating func skip(_ kind: JinjaToken.Kind) -> Bool {
    guard current.kind == kind else { return false }
    advance()
    return true
  }

  mutating func skip(word: StaticString) -> Bool {
    guard current.isName(word) else { return false }
    advance()
    return true
  }

  mutating func expect(_ kind: JinjaToken.Kind) throws(ChatTemplateError) {
    guard skip(kind) else { throw unexpected() }
  }

  mutating func expectName() throws(ChatTemplateError) -> JinjaText {
    let token = current
    guard token.kind == .name else { throw unexpected() }
    advance()
    return token.text
  }

  func unexpected() -> ChatTemplateError {
    let token = current
    switch token.kind {
    case .endOfSource: return fail("unexpected end of template")
    case .variableEnd, .blockEnd: return fail("unexpected end of tag")
    case .data, .variableBegin, .blockBegin: return fail("a tag was expected")
    default: return fail("unexpected '\(token.text.string)'")
    }
  }

  func fail(_ message: String, _ reason: ChatTemplateError.Reason = .syntax) -> ChatTemplateError {
    ChatTemplateError(reason, message, line: current.line)
  }

  /// Runs `body` one level deeper.
  mutating func descend(
    _ body: (inout JinjaParser) throws(ChatTemplateError) -> JinjaNodeID
  ) throws(ChatTemplateError) -> JinjaNodeID {
    depth += 1
    guard depth <= depthMax else { throw fail("statements or expressions nest too deep", .nestedTooDeep) }
    let id = try body(&self)
    depth -= 1
    return id
  }

  // MARK: Statements

  /// Statements up to a tag that starts with one of `ends`, whose word is then the current token. Without `ends` up to
  /// the end of the template.
  private mutating func statements(until ends: [StaticString]) throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    var body: [JinjaNodeID] = []
    loop: while true {
      let token = current
      switch token.kind {
      case .data:
        advance()
        let text = program.add(constant: .string(token.text))
        body.append(try program.add(JinjaNode(kind: .data, line: Int32(token.line), a: text)))
      case .variableBegin:
        advance()
        let value = try tuple()
        body.append(try program.add(JinjaNode(kind: .print, line: Int32(token.line), a: value), [value]))
        try expect(.variableEnd)
      case .blockBegin:
        advance()
        for end in ends where current.isName(end) { break loop }
        body.append(try descend { (parser) throws(ChatTemplateError) in try parser.statement() })
        try expect(.blockEnd)
      default:
        guard ends.isEmpty else { throw fail("unexpected end of template: '\(ends[0])' was expected") }
        break loop
      }
    }
    let list = program.add(list: body)
    return try program.add(JinjaNode(kind: .block, line: start, a: list, b: Int32(body.count)), body)
  }

  /// The body of a statement: past the end of its tag, up to one of `ends`.
  private mutating func body(until ends: StaticString...) throws(ChatTemplateError) -> JinjaNodeID {
    _ = skip(.colon)
    try expect(.blockEnd)
    return try statements(until: ends)
  }

  private mutating func statement() throws(ChatTemplateError) -> JinjaNodeID {
    let start = line
    let word = try expectName()
    switch word.string {
    case "if": return try branch(start)
    case "for": return try loop(start)
    case "set": return try assignment(start)
    case "macro": return try macro(start)
    case "call": return try callBlock(start)
    case "filter":
      let filter = try filterChain(-1, isFirst: true)
      let scope = try self.scope(until: "endfilter")
      return try add(.filterBlock, start, b: filter, c: scope)
    case "with": return try with(start)
    case "generation":
      let scope = try self.scope(until: "endgeneration")
      return try add(.scope, start, c: scope)
    case "print":
      var values: [JinjaNodeID] = []
      while current.kind != .blockEnd {
        if !values.isEmpty { try expect(.comma) }
        let value = try expression()
        values.append(try program.add(JinjaNode(kind: .print, line: start, a: value), [value]))
      }
      let list = program.add(list: values)
      return try program.add(JinjaNode(kind: .block, line: start, a: list, b: Int32(values.count)), values)
    case "break", "continue":
      guard loopDepth > 0 else { throw fail("'\(word.string)' outside a loop") }
      return try add(word.equals("break") ? .breakLoop : .continueLoop, start)
    case "include", "import", "from", "extends", "block", "autoescape", "do", "trans":
      throw fail("the tag '\(word.string)'", .unsupported)
    default:
      throw fail("unknown tag '\(word.string)'")
    }
  }

  /// Adds a node whose `a` and `b` are nodes below it.
  private func add(
    _ kind: JinjaNode.Kind, _ line: Int32, a: JinjaNodeID = -1, b: JinjaNodeID = -1, c: Int32 = -1
  ) throws(ChatTemplateError) -> JinjaNodeID {
    let below =
      kind == .scope || kind == .filterBlock || kind == .assignBlock ? program.scopes[Int(c)].body : -1
    return try program.add(JinjaNode(kind: kind, line: line, a: a, b: b, c: c), [a, b, below])
  }

  /// A body with variables of its own; its number among the scopes.
  private mutating func scope(until end: StaticString) throws(ChatTemplateError) -> Int32 {
    let body = try self.body(until: end)
    advance()
    program.scopes.append(JinjaScopeInfo(body: body))
    return Int32(program.scopes.count - 1)
  }

  /// Behind `if` or `elif`.
  private mutating func branch(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    let test = try tuple(withConditional: false)
    let body = try self.body(until: "elif", "else", "endif")
    var otherwise: JinjaNodeID = -1
    let next = line
    if skip(word: "elif") {
      otherwise = try descend { (parser) throws(ChatTemplateError) in try parser.branch(next) }
    } else if skip(word: "else") {
      otherwise = try self.body(until: "endif")
      advance()
    } else {
      advance()
    }
    return try program.add(
      JinjaNode(kind: .branch, line: start, a: test, b: body, c: otherwise), [test, body, otherwise])
  }

  private mutating func loop(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    let target = try self.target(end: "in")
    guard skip(word: "in") else { throw unexpected() }
    let iterable = try tuple(withConditional: false, end: "recursive")
    let test = skip(word: "if") ? try expression() : -1
    // A loop may say that it could call itself; doing so is not supported.
    _ = skip(word: "recursive")
    let first = Int32(program.nodes.count)
    loopDepth += 1
    let body = try self.body(until: "endfor", "else")
    loopDepth -= 1
    let nodes = first..<Int32(program.nodes.count)
    var otherwise: JinjaNodeID = -1
    if skip(word: "else") { otherwise = try self.body(until: "endfor") }
    advance()
    program.loops.append(
      JinjaLoopInfo(
        target: target, iterable: iterable, test: test, body: body, otherwise: otherwise, bodyNodes: nodes))
    return try program.add(
      JinjaNode(kind: .loop, line: start, a: Int32(program.loops.count - 1)),
      [target, iterable, test, body, otherwise])
  }

  private mutating func assignment(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    let target = try self.target(withNamespace: true)
    if skip(.assign) {
      let value = try tuple()
      return try add(.assign, start, a: target, b: value)
    }
    let filter = current.kind == .pipe ? try filterChain(-1) : -1
    let scope = try self.scope(until: "endset")
    return try add(.assignBlock, start, a: target, b: filter, c: scope)
  }

  private mutating func with(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    var pairs: [JinjaNodeID] = []
    while current.kind != .blockEnd {
      if !pairs.isEmpty { try expect(.comma) }
      pairs.append(try target())
      try expect(.assign)
      pairs.append(try expression())
    }
    let scope = try self.scope(until: "endwith")
    let list = program.add(list: pairs)
    return try program.add(
      JinjaNode(kind: .with, line: start, a: list, b: Int32(pairs.count), c: scope),
      pairs + [program.scopes[Int(scope)].body])
  }

  private mutating func macro(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    let name = try nameNode(try expectName(), start)
    let macro = try macroBody(name: program[name].a, until: "endmacro") {
      (parser) throws(ChatTemplateError) in
      try parser.signature()
    }
    return try program.add(
      JinjaNode(kind: .macro, line: start, a: name, b: macro), [program.macros[Int(macro)].body])
  }

  private mutating func callBlock(_ start: Int32) throws(ChatTemplateError) -> JinjaNodeID {
    let signature: Signature = current.kind == .leftParenthesis ? try self.signature() : Signature()
    let call = try expression()
    guard program[call].kind == .call else { throw fail("a call was expected") }
    let macro = try macroBody(name: -1, until: "endcall") { (_) throws(ChatTemplateError) in signature }
    return try program.add(
      JinjaNode(kind: .callBlock, line: start, a: call, b: macro), [call, program.macros[Int(macro)].body])
  }

  /// The arguments that a macro takes.
  private struct Signature {
    var arguments: [JinjaNodeID] = []
    var defaults: [JinjaNodeID] = []
  }

  private mutating func signature() throws(ChatTemplateError) -> Signature {
    var signature = Signature()
    try expect(.leftParenthesis)
    while current.kind != .rightParenthesis {
      if !signature.arguments.isEmpty { try expect(.comma) }
      signature.arguments.append(try nameNode(try expectName(), line))
      if skip(.assign) {
        signature.defaults.append(try expression())
      } else if !signature.defaults.isEmpty {
        throw fail("an argument without a default value after one with it")
      }
    }
    advance()
    return signature
  }

  private mutating func macroBody(
    name: Int32, until end: StaticString,
    _ read: (inout JinjaParser) throws(ChatTemplateError) -> Signature
  ) throws(ChatTemplateError) -> Int32 {
    let signature = try read(&self)
    let outer = loopDepth
    loopDepth = 0
    let first = Int32(program.nodes.count)
    let body = try self.body(until: end)
    loopDepth = outer
    advance()
    let nodes = first..<Int32(program.nodes.count)
    let arguments = program.add(list: signature.arguments)
    let defaults = program.add(list: signature.defaults)
    program.macros.append(
      JinjaMacroInfo(
        name: name, argumentStart: arguments, argumentCount: Int32(signature.arguments.count),
        defaultStart: defaults, defaultCount: Int32(signature.defaults.count), body: body, bodyNodes: nodes))
    return Int32(program.macros.count - 1)
  }
}
