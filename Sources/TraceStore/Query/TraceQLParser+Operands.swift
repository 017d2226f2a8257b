// The operands of comparisons: values, fields, and arithmetic on them.

internal import Base

extension TraceQLParser {
  /// A sum of products of powers, which begins with `first` where that was read already.
  mutating func sum(from first: Operand? = nil) throws(TraceQLError) -> Operand {
    var left = try product(from: first)
    var count = 0
    while let symbol = try takeOperator(.add, .subtract) {
      try bound(&count)
      left = .arithmetic(left, symbol, try product())
    }
    return left
  }

  private mutating func product(from first: Operand? = nil) throws(TraceQLError) -> Operand {
    var left = try power(from: first)
    var count = 0
    while let symbol = try takeOperator(.multiply, .divide, .remainder) {
      try bound(&count)
      left = .arithmetic(left, symbol, try power())
    }
    return left
  }

  private mutating func power(from first: Operand? = nil) throws(TraceQLError) -> Operand {
    let base = if let first { first } else { try operand() }
    guard try takeOperator(.power) != nil else { return base }
    return try nested { parser throws(TraceQLError) in .arithmetic(base, .power, try parser.power()) }
  }

  private mutating func takeOperator(_ operators: Arithmetic...) throws(TraceQLError) -> Arithmetic? {
    guard case .symbol(let symbol) = token, let found = Arithmetic(rawValue: symbol),
      operators.contains(found)
    else { return nil }
    try advance()
    return found
  }

  private mutating func operand() throws(TraceQLError) -> Operand {
    if try take("-") {
      return try nested { parser throws(TraceQLError) in
        let operand = try parser.operand()
        if case .literal(let value) = operand, let negated = value.negated { return .literal(negated) }
        return .arithmetic(.literal(.int(0)), .subtract, operand)
      }
    }
    if try take("(") {
      return try nested { parser throws(TraceQLError) in
        let inner = try parser.sum()
        try parser.expect(")")
        return inner
      }
    }
    if let value = try literalIfAny() { return .literal(value) }
    return .field(try field())
  }

  mutating func literal() throws(TraceQLError) -> Literal {
    let isNegative = try take("-")
    guard let value = try literalIfAny() else { throw lexer.fault("expected a value") }
    guard isNegative else { return value }
    guard let negated = value.negated else { throw lexer.fault("expected a number before this") }
    return negated
  }

  private mutating func literalIfAny() throws(TraceQLError) -> Literal? {
    let value: Literal
    switch token {
    case .string(let text): value = .string(text)
    case .int(let number): value = .int(number)
    case .double(let number): value = .double(number)
    case .duration(let length): value = .duration(length)
    case .word(let word):
      guard let keyword = Self.keyword(word) else { return nil }
      value = keyword
    default: return nil
    }
    try advance()
    return value
  }

  private static func keyword(_ word: String) -> Literal? {
    switch word {
    case "true": .bool(true)
    case "false": .bool(false)
    case "nil": Literal.none
    case "unset": .status(0)
    case "ok": .status(1)
    case "error": .status(2)
    case "unspecified": .kind(0)
    case "internal": .kind(1)
    case "server": .kind(2)
    case "client": .kind(3)
    case "producer": .kind(4)
    case "consumer": .kind(5)
    default: nil
    }
  }
}

extension Literal {
  /// The same with the other sign; nil for what has none.
  fileprivate var negated: Literal? {
    switch self {
    case .int(let number): .int(0 &- number)
    case .double(let number): .double(-number)
    case .duration(let length): .duration(0 &- length)
    default: nil
    }
  }
}
