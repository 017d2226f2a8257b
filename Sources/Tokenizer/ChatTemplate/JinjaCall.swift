// The arguments of a call, evaluated.

/// Values by position and by name.
struct JinjaCall {
  var positional: [JinjaValue] = []
  var keywords: [JinjaKeyword] = []

  var isEmpty: Bool { positional.isEmpty && keywords.isEmpty }

  /// The values for parameters of these names, in their order; raises on too many and on unknown ones, as Python does.
  func bound(to names: StaticString...) throws(ChatTemplateError) -> [JinjaValue?] {
    var values = [JinjaValue?](repeating: nil, count: names.count)
    guard positional.count <= names.count else {
      throw ChatTemplateError(.type, "\(positional.count) arguments where \(names.count) are taken")
    }
    for (index, value) in positional.enumerated() { values[index] = value }
    for keyword in keywords {
      guard let index = names.firstIndex(where: { keyword.name.equals($0) }), values[index] == nil else {
        throw ChatTemplateError(.type, "unexpected keyword argument '\(keyword.name.string)'")
      }
      values[index] = keyword.value
    }
    return values
  }

  /// Raises unless there are from `least` to `most` arguments, none of them by name.
  func expect(_ least: Int, _ most: Int) throws(ChatTemplateError) {
    if let keyword = keywords.first {
      throw ChatTemplateError(.type, "unexpected keyword argument '\(keyword.name.string)'")
    }
    guard (least...most).contains(positional.count) else {
      throw ChatTemplateError(.type, "\(positional.count) arguments where \(least) to \(most) are taken")
    }
  }

  /// The whole number at `index`; nil when absent or `None`.
  func integer(_ index: Int) throws(ChatTemplateError) -> Int? {
    guard index < positional.count, !positional[index].isNone else { return nil }
    return try positional[index].expectedInteger()
  }

  /// The string at `index`; nil when absent or `None`.
  func text(_ index: Int) throws(ChatTemplateError) -> JinjaText? {
    guard index < positional.count, !positional[index].isNone else { return nil }
    return try positional[index].expectedText()
  }
}

extension JinjaValue {
  /// The whole number that this must be.
  func expectedInteger() throws(ChatTemplateError) -> Int {
    guard let integer else {
      throw ChatTemplateError(.type, "'\(typeName)' object cannot be interpreted as an integer")
    }
    return integer
  }

  /// The string that this must be.
  func expectedText() throws(ChatTemplateError) -> JinjaText {
    guard let text else { throw ChatTemplateError(.type, "a string was expected, not '\(typeName)'") }
    return text
  }
}

extension JinjaRenderer {
  /// The arguments of a call, filter or test.
  func evaluate(arguments number: Int32) throws(ChatTemplateError) -> JinjaCall {
    let arguments = program.arguments[Int(number)]
    var call = JinjaCall()
    if arguments.count > 0 { call.positional.reserveCapacity(Int(arguments.count)) }
    for index in 0..<arguments.count {
      call.positional.append(try evaluate(program.element(arguments.start, index)))
    }
    if arguments.isPlain { return call }
    for pair in 0..<arguments.keywordCount {
      let name = program.names[Int(program.element(arguments.keywordStart, pair * 2))]
      call.keywords.append(
        JinjaKeyword(name: name, value: try evaluate(program.element(arguments.keywordStart, pair * 2 + 1))))
    }
    if arguments.star >= 0 { call.positional += try elements(of: try evaluate(arguments.star)) }
    if arguments.doubleStar >= 0 {
      guard case .dict(let dict) = try evaluate(arguments.doubleStar) else {
        throw ChatTemplateError(.type, "argument after ** must be a mapping")
      }
      for index in 0..<dict.count {
        call.keywords.append(
          JinjaKeyword(name: try dict.keys[index].expectedText(), value: dict.values[index]))
      }
    }
    return call
  }

  /// Evaluates a call; `caller` is what a `call` block hands to the macro.
  func call(_ node: JinjaNode, caller: JinjaValue?) throws(ChatTemplateError) -> JinjaValue {
    let callee = program[node.a]
    if callee.kind == .attribute, caller == nil, let method = program.methods[Int(callee.b)] {
      // A method is called without making it a value first.
      let value = try evaluate(callee.a)
      switch method.access(value) {
      case .allowed: return try call(method, of: value, try evaluate(arguments: node.b))
      case .forbidden:
        throw ChatTemplateError(.security, "a template may not call '\(program.names[Int(callee.b)].string)'")
      case .none: return try call(value: try attribute(callee.b, of: value), try evaluate(arguments: node.b))
      }
    }
    let value = try evaluate(node.a)
    var arguments = try evaluate(arguments: node.b)
    if let caller { arguments.keywords.append(JinjaKeyword(name: JinjaText("caller"), value: caller)) }
    return try call(value: value, arguments)
  }

  private func call(value: JinjaValue, _ arguments: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    switch value {
    case .macro(let macro): return try call(macro, arguments)
    case .function(let function): return try call(function, arguments)
    case .method(let bound): return try call(bound.method, of: bound.value, arguments)
    case .joiner(let joiner):
      try arguments.expect(0, 0)
      if joiner.isUsed { return .string(joiner.separator) }
      joiner.isUsed = true
      return .string(.empty)
    case .undefined(let name): throw undefined(name)
    case .loop: throw ChatTemplateError(.unsupported, "recursive loops")
    default: throw ChatTemplateError(.type, "'\(value.typeName)' object is not callable")
    }
  }

  // MARK: Global functions

  private func call(_ function: JinjaFunction, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    switch function {
    case .range: return try range(call)
    case .dict: return .dict(try dict(call))
    case .namespace:
      let namespace = JinjaNamespace()
      register(namespace)
      let attributes = try dict(call)
      for index in 0..<attributes.count {
        try set(namespace, try attributes.keys[index].expectedText(), attributes.values[index])
      }
      return .namespace(namespace)
    case .cycler:
      guard !call.positional.isEmpty else {
        throw ChatTemplateError(.type, "at least one item has to be provided")
      }
      return .cycler(JinjaCycler(call.positional))
    case .joiner:
      let values = try call.bound(to: "sep")
      return .joiner(
        JinjaJoiner(
          try values[0].map { (value) throws(ChatTemplateError) in try string(value) } ?? JinjaText(", ")))
    case .raiseException:
      let values = try call.bound(to: "message")
      let message = try string(values[0] ?? .none)
      throw ChatTemplateError(.raised, message.slice(0, message.boundary(before: 4096)).string)
    case .strftimeNow:
      let values = try call.bound(to: "format")
      guard let format = values[0] else { throw ChatTemplateError(.type, "strftime_now takes a format") }
      try stepOver(bytes: format.weight * 512)
      return .string(
        try capture { () throws(ChatTemplateError) in
          now.append(try format.expectedText(), to: &output)
        })
    }
  }

  private func range(_ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    try call.expect(1, 3)
    let first = try call.positional[0].expectedInteger()
    let second = call.positional.count > 1 ? try call.positional[1].expectedInteger() : nil
    let step = call.positional.count > 2 ? try call.positional[2].expectedInteger() : 1
    guard step != 0 else { throw ChatTemplateError(.value, "range() arg 3 must not be zero") }
    let start = second == nil ? 0 : first
    let stop = second ?? first
    guard step > 0 ? start < stop : start > stop else {
      return .range(JinjaRange(start: start, step: step, count: 0))
    }
    let (distance, overflowed) = (step > 0 ? stop : start).subtractingReportingOverflow(
      step > 0 ? start : stop)
    let count = overflowed ? Int.max : (distance - 1) / Int(clamping: step.magnitude) + 1
    guard count <= limits.rangeLengthMax else {
      throw ChatTemplateError(.rangeTooLong, "range too big, at most \(limits.rangeLengthMax)")
    }
    return .range(JinjaRange(start: start, step: step, count: count))
  }

  private func dict(_ call: JinjaCall) throws(ChatTemplateError) -> JinjaDict {
    let dict = JinjaDict()
    if let first = call.positional.first {
      if case .dict(let other) = first {
        for index in 0..<other.count { dict.set(other.keys[index], other.values[index]) }
      } else {
        for pair in try elements(of: first) {
          let members = try elements(of: pair)
          guard members.count == 2, members[0].isHashable else {
            throw ChatTemplateError(.value, "dict() takes pairs")
          }
          // Keys that are no strings are looked for one by one.
          if members[0].text == nil { try step(dict.count) }
          dict.set(members[0], members[1])
        }
      }
    }
    for keyword in call.keywords { dict.set(.string(keyword.name), keyword.value) }
    try arena.charge(64 + 48 * dict.count)
    try step(dict.count)
    try check(depth: dict.depth, weight: dict.weight)
    return dict
  }
}
