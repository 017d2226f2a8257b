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
    case "compare":
      kind = .compare(try comparedSpans())
      try expect(")")
      return MetricsFunction(name: name, kind: kind, groups: [])
    default: return nil
    }
    try expect(")")
    return MetricsFunction(name: name, kind: kind, groups: try groups())
  }

  /// Most values of an attribute that `compare()` shows.
  static let comparedValuesMax = 50

  /// `({ ... }`, and perhaps how many values, and from when to when.
  private mutating func comparedSpans() throws(TraceQLError) -> MetricsFunction.Comparison {
    try advance()
    try expect("(")
    guard token == .symbol("{"), case .filter(let selection) = try spansetTerm() else {
      throw lexer.fault("expected the spans to compare, as compare({ status = error })")
    }
    var numbers: [Int64] = []
    while numbers.count < 3, try take(",") { numbers.append(try wholeNumber()) }
    let valuesMax = numbers.first ?? 10
    guard (1...Int64(Self.comparedValuesMax)).contains(valuesMax) else {
      throw lexer.fault("compare() shows 1 to \(Self.comparedValuesMax) values")
    }
    var window: Range<UInt64>?
    if numbers.count > 1 {
      guard numbers.count == 3, numbers[1] >= 0, numbers[2] >= numbers[1] else {
        throw lexer.fault("compare() takes a start and a later end, in nanoseconds since 1970")
      }
      // Both 0 is no window.
      if numbers[2] > 0 { window = UInt64(numbers[1])..<UInt64(numbers[2]) }
    }
    return MetricsFunction.Comparison(selection: selection, valuesMax: Int(valuesMax), window: window)
  }

  private mutating func wholeNumber() throws(TraceQLError) -> Int64 {
    guard case .int(let number) = token else { throw lexer.fault("expected a whole number") }
    try advance()
    return number
  }

  /// Most stages behind a metrics function.
  static let metricsStagesMax = 8

  /// What follows a metrics function: `| topk(5)`, `| bottomk(5)`, `> 10`.
  mutating func metricsStages() throws(TraceQLError) -> [MetricsFunction.Stage] {
    var stages: [MetricsFunction.Stage] = []
    while true {
      guard stages.count < Self.metricsStagesMax else { throw lexer.fault("too many stages") }
      if case .symbol(let symbol) = token, let comparison = Comparison(rawValue: symbol) {
        try advance()
        let value = try literal()
        guard let number = value.metricsNumber else { throw lexer.fault("expected a number") }
        stages.append(.filter(comparison, number))
        continue
      }
      guard try take("|") else { return stages }
      guard case .word(let name) = token, name == "topk" || name == "bottomk" else {
        throw lexer.fault("nothing but topk(), bottomk() and a comparison can follow a metrics function")
      }
      try advance()
      try expect("(")
      let count = try wholeNumber()
      guard count > 0 else { throw lexer.fault("\(name)() takes at least 1") }
      try expect(")")
      stages.append(name == "topk" ? .top(Int(count)) : .bottom(Int(count)))
    }
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

extension Literal {
  /// As a number of a series, where lengths of time are seconds.
  fileprivate var metricsNumber: Double? {
    if case .duration(let length) = self { return Double(length) / 1e9 }
    return number
  }
}
