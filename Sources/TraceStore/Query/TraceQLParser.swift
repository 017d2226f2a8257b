// Turns a TraceQL query into its meaning, or into a message that says what was not understood.

internal import Base

/// Recursive descent with one token of look-ahead.
package struct TraceQLParser {
  /// Longest query in bytes; a request line holds no more.
  package static let bytesMax = 8_192
  /// Brackets and negations within one another.
  static let depthMax = 40

  var lexer: TraceQLLexer
  var token = TraceQLToken.end
  private var depth = 0

  /// Parses `text`. Blank text means `{}`.
  package static func parse(_ text: [UInt8]) throws(TraceQLError) -> TraceQLQuery {
    guard text.count <= bytesMax else {
      throw TraceQLError(position: bytesMax, message: "the query is too long")
    }
    var parser = TraceQLParser(lexer: TraceQLLexer(text))
    try parser.advance()
    if parser.token == .end { return TraceQLQuery(spans: .filter(nil), stages: []) }
    return try parser.query()
  }

  /// Parses one field as it stands in a query, as `resource.service.name` or `status`.
  static func field(_ text: [UInt8]) throws(TraceQLError) -> SpanField {
    guard text.count <= bytesMax else {
      throw TraceQLError(position: bytesMax, message: "the name is too long")
    }
    var parser = TraceQLParser(lexer: TraceQLLexer(text))
    try parser.advance()
    let field = try parser.field()
    guard parser.token == .end else { throw parser.lexer.fault("expected the end of the name") }
    return field
  }

  private init(lexer: TraceQLLexer) { self.lexer = lexer }

  mutating func advance() throws(TraceQLError) { token = try lexer.next() }

  mutating func take(_ symbol: String) throws(TraceQLError) -> Bool {
    guard token == .symbol(symbol) else { return false }
    try advance()
    return true
  }

  mutating func expect(_ symbol: String) throws(TraceQLError) {
    guard try take(symbol) else { throw lexer.fault("expected '\(symbol)'") }
  }

  mutating func nested<Result>(
    _ body: (inout TraceQLParser) throws(TraceQLError) -> Result
  ) throws(TraceQLError) -> Result {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthMax else { throw lexer.fault("the query is nested too deeply") }
    return try body(&self)
  }

  // MARK: Pipeline

  private mutating func query() throws(TraceQLError) -> TraceQLQuery {
    let spans = try spansetOr()
    var stages: [PipelineStage] = []
    var metrics: MetricsFunction?
    while metrics == nil, try take("|") {
      guard stages.count < 32 else { throw lexer.fault("too many stages") }
      if case .word(let name) = token { metrics = try metricsFunction(name) }
      if metrics == nil { stages.append(try stage()) }
    }
    if metrics != nil { metrics?.stages = try metricsStages() }
    // Hints such as `with (most_recent=true)` say how Tempo should look, not for what.
    if token == .word("with") { try passHints() }
    guard token == .end else {
      throw lexer.fault(
        metrics == nil ? "expected '|' or the end of the query" : "nothing can follow a metrics function here"
      )
    }
    return TraceQLQuery(spans: spans, stages: stages, metrics: metrics)
  }

  private mutating func passHints() throws(TraceQLError) {
    try advance()
    try expect("(")
    while token != .symbol(")") {
      if token == .end { throw lexer.fault("expected ')'") }
      try advance()
    }
    try advance()
  }

  private mutating func stage() throws(TraceQLError) -> PipelineStage {
    guard case .word(let name) = token else { return .filter(try spansetOr()) }
    try advance()
    switch name {
    case "select":
      try expect("(")
      var fields = [try field()]
      while try take(",") { fields.append(try field()) }
      try expect(")")
      return .select(fields)
    case "count":
      try expect("(")
      try expect(")")
      return .count(try comparison(), try literal())
    case "avg", "min", "max", "sum":
      guard let function = Aggregate(rawValue: name) else { throw lexer.fault("unknown function") }
      try expect("(")
      let field = try field()
      try expect(")")
      return .aggregate(function, field, try comparison(), try literal())
    default: throw lexer.fault("'\(name)' is no stage that this trace store knows")
    }
  }

  // MARK: Spansets

  private mutating func spansetOr() throws(TraceQLError) -> SpansetExpression {
    try nested { parser throws(TraceQLError) in
      var left = try parser.spansetAnd()
      var count = 0
      while try parser.take("||") {
        try parser.bound(&count)
        left = .or(left, try parser.spansetAnd())
      }
      return left
    }
  }

  private mutating func spansetAnd() throws(TraceQLError) -> SpansetExpression {
    var left = try spansetRelated()
    var count = 0
    while try take("&&") {
      try bound(&count)
      left = .and(left, try spansetRelated())
    }
    return left
  }

  private mutating func spansetRelated() throws(TraceQLError) -> SpansetExpression {
    var left = try spansetTerm()
    var count = 0
    while case .symbol(let symbol) = token, let relation = SpanRelation(rawValue: symbol) {
      try bound(&count)
      try advance()
      left = .related(left, relation, try spansetTerm())
    }
    return left
  }

  /// Chains become trees that are walked by recursion.
  func bound(_ count: inout Int) throws(TraceQLError) {
    count += 1
    guard count <= 100 else { throw lexer.fault("too many spansets") }
  }

  mutating func spansetTerm() throws(TraceQLError) -> SpansetExpression {
    if try take("(") {
      let inner = try spansetOr()
      try expect(")")
      return inner
    }
    guard try take("{") else {
      throw lexer.fault("expected '{'; a query looks like { resource.service.name = \"dynamo-frontend\" }")
    }
    if try take("}") { return .filter(nil) }
    let condition = try any()
    try expect("}")
    if case .truth(.literal(.bool(true))) = condition { return .filter(nil) }
    return .filter(condition)
  }

  // MARK: Conditions

  private mutating func any() throws(TraceQLError) -> FieldExpression {
    try nested { parser throws(TraceQLError) in
      var parts = [try parser.all()]
      while try parser.take("||") { parts.append(try parser.all()) }
      return parts.count == 1 ? parts[0] : .any(parts)
    }
  }

  private mutating func all() throws(TraceQLError) -> FieldExpression {
    var parts = [try condition()]
    while try take("&&") { parts.append(try condition()) }
    return parts.count == 1 ? parts[0] : .all(parts)
  }

  private mutating func condition() throws(TraceQLError) -> FieldExpression {
    if try take("!") {
      return .not(try nested { parser throws(TraceQLError) in try parser.condition() })
    }
    if try take("(") {
      let inner = try any()
      try expect(")")
      // What stands in brackets may be a number that the rest goes on with.
      guard case .truth(let operand) = inner else { return inner }
      return try endsCondition ? truth(operand) : comparison(of: sum(from: operand))
    }
    return try comparison(of: try sum())
  }

  /// True where the condition is over, so that what was read of it stands alone.
  private var endsCondition: Bool {
    guard case .symbol(let symbol) = token else { return false }
    return ["}", ")", "&&", "||"].contains(symbol)
  }

  private mutating func comparison(of left: Operand) throws(TraceQLError) -> FieldExpression {
    guard case .symbol(let symbol) = token else { return try truth(left) }
    if symbol == "=~" || symbol == "!~" {
      try advance()
      guard case .string(let text) = token else { throw lexer.fault("a regular expression must be a string") }
      let pattern: Pattern
      do throws(PatternError) {
        pattern = try Pattern(String(decoding: text, as: UTF8.self))
      } catch {
        throw lexer.fault("regular expression: \(error.message)")
      }
      try advance()
      return .matches(left, pattern, isNegated: symbol == "!~")
    }
    guard Comparison(rawValue: symbol) != nil else { return try truth(left) }
    let comparison = try comparison()
    return .compare(left, comparison, try sum())
  }

  private func truth(_ operand: Operand) throws(TraceQLError) -> FieldExpression {
    // In brackets a number may be meant; whoever opened them goes on with it.
    if case .arithmetic = operand, token != .symbol(")") { throw lexer.fault("expected a comparison") }
    return .truth(operand)
  }

  private mutating func comparison() throws(TraceQLError) -> Comparison {
    guard case .symbol(let symbol) = token, let comparison = Comparison(rawValue: symbol) else {
      throw lexer.fault("expected a comparison")
    }
    try advance()
    return comparison
  }

  mutating func field() throws(TraceQLError) -> SpanField {
    switch token {
    case .attribute(let scope, let name):
      try advance()
      return .attribute(scope, name)
    case .parent(let scope, let name):
      try advance()
      return .parent(scope, name)
    case .word(let name):
      guard let intrinsic = Intrinsic(name) else {
        throw lexer.fault("unknown name '\(name)'; attributes begin with a scope or a dot, as .\(name)")
      }
      try advance()
      return .intrinsic(intrinsic)
    default: throw lexer.fault("expected an attribute or a value")
    }
  }
}
