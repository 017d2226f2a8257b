// Runs a compiled template: filters of text, numbers and single values.

internal import Base
internal import Glibc

extension JinjaRenderer {
  /// Evaluates a filter node; `block` is what the block wrote, for the filter that has no value of its own.
  func evaluate(filter node: JinjaNode, block: JinjaValue?) throws(ChatTemplateError) -> JinjaValue {
    let value: JinjaValue
    if node.a < 0 {
      value = block ?? .none
    } else if program[node.a].kind == .filter, block != nil {
      value = try evaluate(filter: program[node.a], block: block)
    } else {
      value = try evaluate(node.a)
    }
    guard node.c >= 0 else {
      throw ChatTemplateError(.unsupported, "no filter named '\(program.names[Int(-2 - node.c)].string)'")
    }
    return try apply(JinjaFilter(number: node.c), to: value, try evaluate(arguments: node.b))
  }

  /// `value | filter(call)`.
  func apply(_ filter: JinjaFilter, to value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    switch filter {
    case .tojson: return .string(try json(value, call))
    case .length, .count:
      try call.expect(0, 0)
      guard let length = try length(of: value) else {
        throw ChatTemplateError(.type, "object of type '\(value.typeName)' has no len()")
      }
      return .int(length)
    case .default, .d:
      let values = try call.bound(to: "default_value", "boolean")
      let isTaken = value.isUndefined || (values[1]?.isTrue ?? false) && !value.isTrue
      return isTaken ? values[0] ?? .string(.empty) : value
    case .string:
      if case .string = value { return value }
      return .string(try string(value))
    case .safe: return .string(try string(value).with(flags: JinjaText.markup))
    case .escape, .e:
      if case .string(let text) = value, text.isMarkup { return value }
      return .string(try escaped(try string(value)))
    case .forceescape: return .string(try escaped(try string(value)))
    case .trim, .upper, .lower, .capitalize, .title, .replace, .indent, .center, .truncate, .format,
      .wordcount:
      return try apply(text: filter, to: value, call)
    case .int, .float, .abs, .round: return try apply(number: filter, to: value, call)
    case .attr:
      try call.expect(1, 1)
      let name = try call.positional[0].expectedText()
      if case .dict = value { return .undefined(name.with(flags: JinjaText.attribute)) }
      return try item(.string(name), of: value)
    default: return try apply(sequence: filter, to: value, call)
    }
  }

  private func json(_ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaText {
    var writer = try JinjaJSONWriter(call, self)
    return try capture { () throws(ChatTemplateError) in
      let start = output.count
      try step(value.weight)
      try writer.append(value, to: &output)
      try step((output.count - start) >> 4)
      try checkOutput()
    }
  }

  // MARK: Text

  private func apply(
    text filter: JinjaFilter, to value: JinjaValue, _ call: JinjaCall
  ) throws(ChatTemplateError) -> JinjaValue {
    if filter == .indent {
      // It adds to its value, so that must be a string.
      if case .undefined(let name) = value { throw undefined(name) }
      _ = try value.expectedText()
    }
    if filter == .truncate, value.text == nil { return try truncatedOther(value) }
    let text = try string(value)
    switch filter {
    case .trim:
      let characters = try call.bound(to: "chars")[0]
      return .string(
        try strip(
          text,
          try characters.flatMap { (value) throws(ChatTemplateError) in
            value.isNone ? nil : try value.expectedText()
          }))
    case .upper: return .string(try cased(text, .upper))
    case .lower: return .string(try cased(text, .lower))
    case .capitalize: return .string(try cased(text, .capitalize))
    case .title: return .string(try titled(text))
    case .replace:
      let values = try call.bound(to: "old", "new", "count")
      guard let old = values[0], let new = values[1] else {
        throw ChatTemplateError(.type, "replace takes two strings")
      }
      let count = try values[2].flatMap { (value) throws(ChatTemplateError) in
        value.isNone ? nil : try value.expectedInteger()
      }
      return .string(try replaced(text, try string(old), try string(new), count ?? -1))
    case .indent: return .string(try indented(text, call))
    case .center:
      let width = try call.bound(to: "width")[0] ?? .int(80)
      return try self.call(.center, of: .string(text), JinjaCall(positional: [width]))
    case .truncate: return .string(try truncated(text, call))
    case .format:
      let items = try makeList(call.positional, isTuple: true)
      guard call.keywords.isEmpty else { throw ChatTemplateError(.unsupported, "format by names") }
      return .string(try PythonFormat.percent(text, items, self))
    default:
      try stepOverCharacters(of: text)
      return .int(wordCount(text))
    }
  }

  /// Runs of letters, digits and underscores.
  private func wordCount(_ text: JinjaText) -> Int {
    var count = 0
    var isInWord = false
    var offset = 0
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      let character = text.slice(offset, end)
      let isWord = PythonText.matches(character, .isalnum) || character.equals("_")
      if isWord, !isInWord { count += 1 }
      isInWord = isWord
      offset = end
    }
    return count
  }

  /// Words with a capital first letter, where words start behind `-({[<` and white space.
  private func titled(_ text: JinjaText) throws(ChatTemplateError) -> JinjaText {
    try stepOverCharacters(of: text)
    return try capture { () throws(ChatTemplateError) in
      var offset = 0
      while offset < text.count {
        var end = offset
        while end < text.count, !isBeforeWord(text, end) { end = text.end(ofCharacterAt: end) }
        if end > offset {
          let first = text.end(ofCharacterAt: offset)
          PythonText.append(text.slice(offset, first), in: .upper, to: &output)
          PythonText.append(text.slice(first, end), in: .lower, to: &output)
        }
        offset = end
        while offset < text.count, isBeforeWord(text, offset) {
          let next = text.end(ofCharacterAt: offset)
          output.append(text.slice(offset, next).bytes)
          offset = next
        }
      }
    }
  }

  private func isBeforeWord(_ text: JinjaText, _ offset: Int) -> Bool {
    switch text.base[offset] {
    case UInt8(ascii: "-"), UInt8(ascii: "("), UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: "<"): true
    default: text.isSpace(offset, text.end(ofCharacterAt: offset))
    }
  }

  private func indented(_ text: JinjaText, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaText {
    let values = try call.bound(to: "width", "first", "blank")
    let width = values[0] ?? .int(4)
    let indention = try self.indention(width)
    let indentsBlank = values[2]?.isTrue ?? false
    // jinja2 adds a newline first, so that a last empty line counts.
    var lines = try self.lines(text)
    if text.isEmpty || PythonText.isLineEnd(lastScalar(text).value) { lines.append(.empty) }
    return try capture { () throws(ChatTemplateError) in
      for (index, line) in lines.enumerated() {
        if index == 0 {
          if values[1]?.isTrue ?? false { output.append(indention.bytes) }
        } else {
          output.append(UInt8(ascii: "\n"))
          if indentsBlank || !line.isEmpty { output.append(indention.bytes) }
        }
        output.append(line.bytes)
        try checkOutput()
      }
    }
  }

  /// What a line is indented by: a string, or that many spaces.
  func indention(_ width: JinjaValue) throws(ChatTemplateError) -> JinjaText {
    if case .string(let text) = width { return text }
    return try repeated(JinjaText(" "), try width.expectedInteger())
  }

  private func lastScalar(_ text: JinjaText) -> Unicode.Scalar {
    text.scalar(text.start(ofCharacterBefore: text.count), text.count)
  }

  /// What is no string is only measured; templates do not come further with it.
  private func truncatedOther(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard let length = try length(of: value), length <= 255 else {
      throw ChatTemplateError(.type, "'\(value.typeName)' object cannot be truncated")
    }
    return value
  }

  private func truncated(_ text: JinjaText, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaText {
    let values = try call.bound(to: "length", "killwords", "end", "leeway")
    let length = try values[0].map { (value) throws(ChatTemplateError) in try value.expectedInteger() } ?? 255
    let mark =
      try values[2].map { (value) throws(ChatTemplateError) in try value.expectedText() } ?? JinjaText("...")
    let leeway = try values[3].map { (value) throws(ChatTemplateError) in try value.expectedInteger() } ?? 5
    let markCount = mark.characterCount
    guard length >= markCount, leeway >= 0 else {
      throw ChatTemplateError(.value, "truncate: length too small")
    }
    if text.characterCount <= length &+ leeway { return text }
    var kept = text.slice(0, text.offset(ofCharacter: length - markCount))
    if !(values[1]?.isTrue ?? false), let space = kept.findLast(JinjaText(" "), before: kept.count) {
      kept = kept.slice(0, space)
    }
    return try capture { () throws(ChatTemplateError) in
      output.append(kept.bytes)
      output.append(mark.bytes)
    }
  }

  /// The text with what HTML reads specially written as entities, marked so that it happens once.
  func escaped(_ text: JinjaText) throws(ChatTemplateError) -> JinjaText {
    if text.isMarkup { return text }
    try step(text.count >> 3)
    return try capture { () throws(ChatTemplateError) in
      for byte in text.bytes {
        switch byte {
        case UInt8(ascii: "&"): output.append("&amp;" as StaticString)
        case UInt8(ascii: "<"): output.append("&lt;" as StaticString)
        case UInt8(ascii: ">"): output.append("&gt;" as StaticString)
        case UInt8(ascii: "'"): output.append("&#39;" as StaticString)
        case UInt8(ascii: "\""): output.append("&#34;" as StaticString)
        default: output.append(byte)
        }
      }
      try checkOutput()
    }.with(flags: JinjaText.markup)
  }

  // MARK: Numbers

  private func apply(
    number filter: JinjaFilter, to value: JinjaValue, _ call: JinjaCall
  ) throws(ChatTemplateError) -> JinjaValue {
    if case .undefined(let name) = value { throw undefined(name) }
    switch filter {
    case .int:
      let values = try call.bound(to: "default", "base")
      let radix = try values[1].map { (value) throws(ChatTemplateError) in try value.expectedInteger() } ?? 10
      return integer(value, radix) ?? values[0] ?? .int(0)
    case .float:
      let values = try call.bound(to: "default")
      if let number = value.number { return .double(number) }
      if case .string(let text) = value, let number = PythonText.double(text) { return .double(number) }
      if case .bigInteger(let text) = value, let number = PythonText.double(text) { return .double(number) }
      return values[0] ?? .double(0)
    case .abs:
      try call.expect(0, 0)
      if case .double(let number) = value { return .double(number.magnitude) }
      return try expectedInteger(value) < 0 ? try negate(value) : .int(try expectedInteger(value))
    default: return try rounded(value, call)
    }
  }

  private func expectedInteger(_ value: JinjaValue) throws(ChatTemplateError) -> Int {
    try value.expectedInteger()
  }

  private func integer(_ value: JinjaValue, _ radix: Int) -> JinjaValue? {
    if case .bigInteger = value { return value }
    if let number = value.integer { return .int(number) }
    if case .string(let text) = value {
      if let number = PythonText.integer(text, radix: radix) { return .int(number) }
      guard let number = PythonText.double(text) else { return nil }
      return Int(exactly: number.rounded(.towardZero)).map { .int($0) }
    }
    guard case .double(let number) = value else { return nil }
    return Int(exactly: number.rounded(.towardZero)).map { .int($0) }
  }

  private func rounded(_ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    let values = try call.bound(to: "precision", "method")
    let precision =
      try values[0].map { (value) throws(ChatTemplateError) in try value.expectedInteger() } ?? 0
    let method =
      try values[1].map { (value) throws(ChatTemplateError) in try value.expectedText() }
      ?? JinjaText("common")
    guard let number = value.number, abs(precision) <= 300 else {
      throw ChatTemplateError(.type, "type \(value.typeName) doesn't define __round__ method")
    }
    if method.equals("common") {
      if let whole = value.integer, precision >= 0 { return .int(whole) }
      if precision < 0 {
        let scale = pow(10, Double(-precision))
        let result = (number / scale).rounded(.toNearestOrEven) * scale
        return value.integer != nil ? .int(Int(result)) : .double(result)
      }
      return .double(Double(PythonFormat.fixed(number, precision)) ?? number)
    }
    let scale = pow(10, Double(precision))
    if method.equals("ceil") { return .double((number * scale).rounded(.up) / scale) }
    if method.equals("floor") { return .double((number * scale).rounded(.down) / scale) }
    throw ChatTemplateError(.value, "method must be common, ceil or floor")
  }
}
