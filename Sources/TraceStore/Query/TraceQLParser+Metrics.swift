// The functions of metrics queries, as `| quantile_over_time(duration, .9, .99) by (resource.service.name)`.

internal import Base

extension TraceQLParser {
  /// Most fields in `by()`, as in Tempo, and most quantiles.
  static let groupsMax = 5

  /// Parses the arguments of the metrics function called `name`, whose name was read; nil when it is none.
  mutating func metricsFunction(_ name: String) throws(TraceQLError) -> MetricsFunction? {
    let kind: MetricsFunction.Kind
    switch name {
    case "rate", "count_over_time":
      try advance()
      try expect("(")
      kind = name == "rate" ? .rate : .count
    case "min_over_time", "max_over_time", "avg_over_time", "sum_over_time":
      guard let function = Aggregate(rawValue: String(name.prefix(3))) else { return nil }
      kind = .aggregate(function, try argument())
    case "histogram_over_time": kind = .histogram(try argument())
    case "quantile_over_time":
      let field = try argument()
      var quantiles: [Double] = []
      while try take(",") {
        guard quantiles.count < Self.groupsMax else { throw lexer.fault("too many quantiles") }
        quantiles.append(try quantile())
      }
      guard !quantiles.isEmpty else { throw lexer.fault("expected a quantile, as .9") }
      kind = .quantiles(field, quantiles)
    default: return nil
    }
    try expect(")")
    return MetricsFunction(name: name, kind: kind, groups: try groups())
  }

  private mutating func argument() throws(TraceQLError) -> SpanField {
    try advance()
    try expect("(")
    return try field()
  }

  private mutating func groups() throws(TraceQLError) -> [SpanField] {
    guard token == .word("by") else { return [] }
    try advance()
    try expect("(")
    var fields = [try field()]
    while try take(",") {
      guard fields.count < Self.groupsMax else { throw lexer.fault("too many fields to group by") }
      fields.append(try field())
    }
    try expect(")")
    return fields
  }

  private mutating func quantile() throws(TraceQLError) -> Double {
    let value: Double?
    switch token {
    case .int(let number): value = Double(number)
    case .double(let number): value = number
    // What begins with a point reads as an attribute.
    case .attribute(.any, let digits) where digits.allSatisfy { (0x30...0x39).contains($0) }:
      value = Double("0." + String(decoding: digits, as: UTF8.self))
    default: value = nil
    }
    guard let value, (0...1).contains(value) else { throw lexer.fault("a quantile lies between 0 and 1") }
    try advance()
    return value
  }
}
