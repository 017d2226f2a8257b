// Runs a compiled template: what stands behind `is`.

extension JinjaRenderer {
  func evaluate(test node: JinjaNode) throws(ChatTemplateError) -> Bool {
    guard node.c >= 0 else {
      throw ChatTemplateError(.unsupported, "no test named '\(program.names[Int(-2 - node.c)].string)'")
    }
    let value = try evaluate(node.a)
    return try apply(JinjaTest(number: node.c), to: value, try evaluate(arguments: node.b))
  }

  /// `value is test(call)`.
  func apply(_ test: JinjaTest, to value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> Bool {
    if let operation = JinjaRenderer.comparison(test) {
      try call.expect(1, 1)
      return try compare(operation, value, call.positional[0])
    }
    switch test {
    case .divisibleby, .sameas: try call.expect(1, 1)
    default: try call.expect(0, 0)
    }
    switch test {
    case .defined: return !value.isUndefined
    case .undefined: return value.isUndefined
    case .none: return value.isNone
    case .true: if case .bool(true) = value { return true }
    case .false: if case .bool(false) = value { return true }
    case .boolean: if case .bool = value { return true }
    case .string: if case .string = value { return true }
    case .mapping: if case .dict = value { return true }
    case .float: if case .double = value { return true }
    case .integer:
      switch value {
      case .int, .bigInteger: return true
      default: return false
      }
    case .number:
      if case .bigInteger = value { return true }
      return value.number != nil
    case .sequence: return isSequence(value)
    case .iterable: return isIterable(value)
    case .callable: return isCallable(value)
    case .escaped: return value.text?.isMarkup ?? false
    case .lower, .upper:
      let text = try string(value)
      try stepOverCharacters(of: text)
      return PythonText.hasCase(text, isUpper: test == .upper)
    case .odd, .even, .divisibleby:
      let divisor = test == .divisibleby ? call.positional[0] : .int(2)
      let rest = try calculate(.modulo, value, divisor)
      return test == .odd ? rest.isEqual(.int(1)) : rest.isEqual(.int(0))
    case .sameas: return isSame(value, call.positional[0])
    case .filter: return JinjaFilter(rawValue: try value.expectedText().string) != nil
    case .test: return JinjaTest(name: try value.expectedText()) != nil
    default: break
    }
    return false
  }

  private static func comparison(_ test: JinjaTest) -> JinjaComparison? {
    switch test {
    case .eq, .equalto: .equal
    case .ne: .notEqual
    case .lt, .lessthan: .less
    case .le: .lessOrEqual
    case .gt, .greaterthan: .greater
    case .ge: .greaterOrEqual
    case .in: .in
    default: nil
    }
  }

  private func isSequence(_ value: JinjaValue) -> Bool {
    switch value {
    case .undefined, .string, .list, .dict, .range: true
    default: false
    }
  }

  private func isIterable(_ value: JinjaValue) -> Bool {
    switch value {
    case .view, .generator, .loop: true
    default: isSequence(value)
    }
  }

  private func isCallable(_ value: JinjaValue) -> Bool {
    switch value {
    case .macro, .function, .method, .joiner, .undefined: true
    default: false
    }
  }

  /// `left is right`, which for small values is what Python's caches make of it.
  private func isSame(_ left: JinjaValue, _ right: JinjaValue) -> Bool {
    switch (left, right) {
    case (.none, .none): true
    case (.bool(let one), .bool(let two)): one == two
    case (.int(let one), .int(let two)): one == two
    case (.string(let one), .string(let two)): one.equals(two)
    case (.list(let one), .list(let two)): one === two
    case (.dict(let one), .dict(let two)): one === two
    case (.namespace(let one), .namespace(let two)): one === two
    default: false
    }
  }
}
