// Python's two ways to format strings: `'{}'.format(...)` and `'%s' % ...`, as far as templates use them.

internal import Base

/// Formats strings by templates of their own.
enum PythonFormat {
  // MARK: str.format

  /// `text.format(…)`: fields by position, by number and by name, `!r` and `!s`, and plain format specifications.
  static func format(
    _ text: JinjaText, _ call: JinjaCall, _ renderer: JinjaRenderer
  ) throws(ChatTemplateError) -> JinjaText {
    try renderer.step(text.count >> 2)
    return try renderer.capture { () throws(ChatTemplateError) in
      var next = 0
      var offset = 0
      while offset < text.count {
        let byte = text.base[offset]
        let isDoubled = offset + 1 < text.count && text.base[offset + 1] == byte
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "}"):
          if isDoubled {
            renderer.output.append(byte)
            offset += 2
            continue
          }
          guard byte == UInt8(ascii: "{"), let end = text.find(JinjaText("}"), from: offset) else {
            throw ChatTemplateError(.value, "single '\(Character(Unicode.Scalar(byte)))' in format string")
          }
          try append(field: text.slice(offset + 1, end), call, &next, renderer)
          offset = end + 1
        default:
          renderer.output.append(byte)
          offset += 1
        }
      }
      try renderer.checkOutput()
    }
  }

  private static func append(
    field: JinjaText, _ call: JinjaCall, _ next: inout Int, _ renderer: JinjaRenderer
  ) throws(ChatTemplateError) {
    let colon = field.find(JinjaText(":"))
    let head = field.slice(0, colon ?? field.count)
    let specification = colon.map { field.slice($0 + 1, field.count) } ?? .empty
    let bang = head.find(JinjaText("!"))
    let name = head.slice(0, bang ?? head.count)
    let conversion = bang.map { head.slice($0 + 1, head.count) } ?? .empty
    let value: JinjaValue?
    if name.isEmpty {
      value = next < call.positional.count ? call.positional[next] : nil
      next += 1
    } else if let index = PythonText.integer(name), index >= 0 {
      value = index < call.positional.count ? call.positional[index] : nil
    } else if name.find(JinjaText(".")) != nil || name.find(JinjaText("[")) != nil {
      throw ChatTemplateError(.unsupported, "attributes in format fields")
    } else {
      value = call.keywords.first { $0.name.equals(name) }?.value
    }
    guard let value else { throw ChatTemplateError(.value, "no argument for format field '\(name.string)'") }
    let plain = try renderer.capture { () throws(ChatTemplateError) in
      if conversion.equals("r") {
        try renderer.step(value.weight &* 16)
        JinjaPrinter.append(representation: value, to: &renderer.output)
      } else {
        try renderer.write(value)
      }
    }
    try append(plain, value, specification, renderer)
  }

  /// Appends a value by a specification: `[[fill]align][sign][0][width][,][.precision][type]`.
  private static func append(
    _ plain: JinjaText, _ value: JinjaValue, _ specification: JinjaText, _ renderer: JinjaRenderer
  ) throws(ChatTemplateError) {
    if specification.isEmpty {
      renderer.output.append(plain.bytes)
      return
    }
    var reader = Specification(specification)
    guard let form = reader.read() else {
      throw ChatTemplateError(.unsupported, "the format specification '\(specification.string)'")
    }
    var digits = plain
    switch form.type {
    case 0, UInt8(ascii: "s"), UInt8(ascii: "d"):
      if let precision = form.precision, case .string(let text) = value {
        digits = text.slice(0, text.offset(ofCharacter: min(precision, text.characterCount)))
      } else if let precision = form.precision, let number = value.number {
        digits = try renderer.arena.copy(fixed(number, precision))
      }
    case UInt8(ascii: "f"), UInt8(ascii: "F"):
      guard let number = value.number else { throw ChatTemplateError(.value, "a number was expected") }
      digits = try renderer.arena.copy(fixed(number, form.precision ?? 6))
    default:
      throw ChatTemplateError(.unsupported, "the format type '\(Character(Unicode.Scalar(form.type)))'")
    }
    if form.groups { digits = try renderer.arena.copy(grouped(digits.string)) }
    let missing = max(form.width - digits.characterCount, 0)
    guard missing <= 1 << 16 else { throw ChatTemplateError(.outOfMemory, "a format width of \(form.width)") }
    let isNumber = value.number != nil
    let left: Int
    switch form.alignment {
    case UInt8(ascii: "<"): left = 0
    case UInt8(ascii: ">"): left = missing
    case UInt8(ascii: "^"): left = missing / 2
    default: left = isNumber ? missing : 0
    }
    for _ in 0..<left { renderer.output.append(form.fill) }
    renderer.output.append(digits.bytes)
    for _ in left..<missing { renderer.output.append(form.fill) }
  }

  private struct Specification {
    struct Form {
      var fill = UInt8(ascii: " ")
      var alignment: UInt8 = 0
      var width = 0
      var groups = false
      var precision: Int?
      var type: UInt8 = 0
    }

    private let bytes: [UInt8]
    private var offset = 0

    init(_ text: JinjaText) {
      bytes = Array(text.bytes)
    }

    private func byte(_ index: Int) -> UInt8 { index < bytes.count ? bytes[index] : 0 }

    private func isAlignment(_ byte: UInt8) -> Bool {
      byte == UInt8(ascii: "<") || byte == UInt8(ascii: ">") || byte == UInt8(ascii: "^")
    }

    private mutating func number() -> Int? {
      var value: Int?
      while byte(offset) >= UInt8(ascii: "0"), byte(offset) <= UInt8(ascii: "9"), (value ?? 0) < 100_000 {
        value = (value ?? 0) * 10 + Int(byte(offset) - UInt8(ascii: "0"))
        offset += 1
      }
      return value
    }

    mutating func read() -> Form? {
      var form = Form()
      if isAlignment(byte(1)), byte(0) < 0x80 {
        form.fill = byte(0)
        form.alignment = byte(1)
        offset = 2
      } else if isAlignment(byte(0)) {
        form.alignment = byte(0)
        offset = 1
      }
      if byte(offset) == UInt8(ascii: "0") {
        form.fill = UInt8(ascii: "0")
        offset += 1
      }
      form.width = number() ?? 0
      if byte(offset) == UInt8(ascii: ",") {
        form.groups = true
        offset += 1
      }
      if byte(offset) == UInt8(ascii: ".") {
        offset += 1
        guard let precision = number(), precision <= 60 else { return nil }
        form.precision = precision
      }
      if offset < bytes.count {
        form.type = bytes[offset]
        offset += 1
      }
      return offset == bytes.count ? form : nil
    }
  }

  /// A number in digits, with commas after each three of the whole part.
  private static func grouped(_ digits: String) -> String {
    let parts = digits.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    let sign = parts[0].hasPrefix("-") ? "-" : ""
    let whole = Array(parts[0].dropFirst(sign.count))
    var text = sign
    for (index, digit) in whole.enumerated() {
      if index > 0, (whole.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return parts.count > 1 ? text + "." + parts[1] : text
  }

  /// A number with `digits` places after the point, rounded half to even by its exact value.
  static func fixed(_ number: Double, _ digits: Int) -> String {
    guard number.isFinite else { return number.isNaN ? "nan" : number < 0 ? "-inf" : "inf" }
    return ExactDecimal(number.magnitude).rounded(digits, isNegative: number.sign == .minus)
  }

  // MARK: %

  /// `format % values`.
  static func percent(
    _ format: JinjaText, _ values: JinjaValue, _ renderer: JinjaRenderer
  ) throws(ChatTemplateError) -> JinjaText {
    var items = [values]
    if case .list(let list) = values, list.isTuple { items = list.items }
    try renderer.step(format.count >> 2)
    return try renderer.capture { () throws(ChatTemplateError) in
      var next = 0
      var offset = 0
      while offset < format.count {
        let byte = format.base[offset]
        offset += 1
        guard byte == UInt8(ascii: "%") else {
          renderer.output.append(byte)
          continue
        }
        let start = offset
        while offset < format.count, isFlag(format.base[offset]) { offset += 1 }
        let letter = offset < format.count ? format.base[offset] : 0
        let flags = format.slice(start, offset)
        offset += 1
        if letter == UInt8(ascii: "%") {
          renderer.output.append(letter)
          continue
        }
        guard next < items.count else {
          throw ChatTemplateError(.type, "not enough arguments for format string")
        }
        try append(percent: letter, flags, items[next], renderer)
        next += 1
      }
      // What can be subscripted by a key, strings and tuples apart, need not be used up.
      var isMapping = false
      switch values {
      case .dict, .range: isMapping = true
      case .list(let list): isMapping = !list.isTuple
      default: break
      }
      guard next == items.count || isMapping else {
        throw ChatTemplateError(.type, "not all arguments converted during string formatting")
      }
      try renderer.checkOutput()
    }
  }

  private static func isFlag(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"): true
    default: false
    }
  }

  private static func append(
    percent letter: UInt8, _ flags: JinjaText, _ value: JinjaValue, _ renderer: JinjaRenderer
  ) throws(ChatTemplateError) {
    let isLeft = flags.hasPrefix(JinjaText("-"))
    // The same as a field's specification, but that everything stands on the right unless told otherwise.
    var form = JinjaText(isLeft ? "<" : ">")
    form = try renderer.arena.copy(form.string + flags.slice(isLeft ? 1 : 0, flags.count).string)
    let plain: JinjaText
    switch letter {
    case UInt8(ascii: "s"): plain = try renderer.string(value)
    case UInt8(ascii: "r"):
      try renderer.step(value.weight &* 16)
      plain = try renderer.capture { () throws(ChatTemplateError) in
        JinjaPrinter.append(representation: value, to: &renderer.output)
      }
    case UInt8(ascii: "d"), UInt8(ascii: "i"):
      guard let number = value.number, abs(number) < 9e18 else {
        throw ChatTemplateError(.type, "%d format: a real number is required, not \(value.typeName)")
      }
      plain = try renderer.string(.int(value.integer ?? Int(number)))
    case UInt8(ascii: "f"):
      guard value.number != nil else { throw ChatTemplateError(.type, "must be real number") }
      try append(.empty, value, try renderer.arena.copy(form.string + "f"), renderer)
      return
    default: throw ChatTemplateError(.unsupported, "a format after '%' other than s, r, d, i and f")
    }
    try append(plain, .string(plain), flags.isEmpty ? .empty : form, renderer)
  }
}

/// The exact decimal digits of a finite number that is not negative: rounding needs more of them than a Double's
/// shortest form shows.
private struct ExactDecimal {
  /// Digits of the whole part and of the fraction, one a byte.
  private var whole: [UInt8] = [0]
  private var fraction: [UInt8] = []

  init(_ number: Double) {
    guard number > 0 else { return }
    var significand = UInt64(number.significandBitPattern)
    var exponent = Int(number.exponent) - 52
    if number.isNormal { significand |= 1 << 52 } else { exponent = -1074 }
    whole = String(significand).utf8.map { $0 - UInt8(ascii: "0") }
    while exponent > 0 {
      double()
      exponent -= 1
    }
    while exponent < 0 {
      halve()
      exponent += 1
    }
  }

  private mutating func double() {
    var carry: UInt8 = 0
    for index in whole.indices.reversed() {
      let value = whole[index] * 2 + carry
      whole[index] = value % 10
      carry = value / 10
    }
    if carry > 0 { whole.insert(carry, at: 0) }
  }

  private mutating func halve() {
    var rest: UInt8 = 0
    for index in whole.indices {
      let value = rest * 10 + whole[index]
      whole[index] = value / 2
      rest = value % 2
    }
    for index in fraction.indices {
      let value = rest * 10 + fraction[index]
      fraction[index] = value / 2
      rest = value % 2
    }
    if rest > 0 { fraction.append(5) }
  }

  /// The digits with `places` after the point.
  func rounded(_ places: Int, isNegative: Bool) -> String {
    var digits = whole + fraction.prefix(places)
    digits += [UInt8](repeating: 0, count: max(places - fraction.count, 0))
    let rest = fraction.dropFirst(places)
    let isAboveHalf = rest.first.map { $0 > 5 || $0 == 5 && rest.dropFirst().contains { $0 > 0 } } ?? false
    let isHalf = rest.first == 5 && !isAboveHalf
    if isAboveHalf || isHalf && (digits.last ?? 0) % 2 == 1 {
      var index = digits.count - 1
      while index >= 0, digits[index] == 9 {
        digits[index] = 0
        index -= 1
      }
      if index >= 0 { digits[index] += 1 } else { digits.insert(1, at: 0) }
    }
    var text = String(decoding: digits.map { $0 + UInt8(ascii: "0") }, as: UTF8.self)
    let zeros = text.dropLast(places + 1).prefix { $0 == "0" }.count
    text.removeFirst(zeros)
    if places > 0 { text.insert(".", at: text.index(text.endIndex, offsetBy: -places)) }
    return isNegative ? "-" + text : text
  }
}
