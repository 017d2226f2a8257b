// Runs a compiled template: methods of strings, lists, mappings and jinja2's own objects.

internal import Base

extension JinjaRenderer {
  /// Calls a method that the value has and that the sandbox allows.
  func call(
    _ method: JinjaMethod, of value: JinjaValue, _ call: JinjaCall
  ) throws(ChatTemplateError) -> JinjaValue {
    switch value {
    case .string(let text):
      if method == .format { return .string(try PythonFormat.format(text, call, self)) }
      return try self.call(method, of: text, call)
    case .dict(let dict): return try self.call(method, of: dict, call)
    case .list(let list):
      if method == .copy { return value }
      return try search(method, list.items, call)
    case .range(let range): return try search(method, range.items, call)
    case .loop(let loop): return try self.call(method, of: loop, call)
    case .cycler(let cycler):
      if method == .reset {
        cycler.position = 0
        return .none
      }
      let item = cycler.items[cycler.position]
      cycler.position = (cycler.position + 1) % cycler.items.count
      return item
    default: throw ChatTemplateError(.type, "'\(value.typeName)' object has no such method")
    }
  }

  private func call(_ method: JinjaMethod, of dict: JinjaDict, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    switch method {
    case .get:
      try call.expect(1, 2)
      guard call.positional[0].isHashable else {
        throw ChatTemplateError(.type, "unhashable type: '\(call.positional[0].typeName)'")
      }
      if let found = try value(call.positional[0], of: dict) { return found }
      return call.positional.count > 1 ? call.positional[1] : .none
    case .items, .keys, .values:
      try call.expect(0, 0)
      return .view(JinjaView(method == .items ? .items : method == .keys ? .keys : .values, dict))
    default:
      try call.expect(0, 0)
      return .dict(dict)
    }
  }

  private func search(_ method: JinjaMethod, _ items: [JinjaValue], _ call: JinjaCall)
    throws(ChatTemplateError) -> JinjaValue
  {
    try call.expect(1, 1)
    try step(items.count >> 2)
    if method == .count {
      var count = 0
      for item in items where try isEqual(item, call.positional[0]) { count += 1 }
      return .int(count)
    }
    for (index, item) in items.enumerated() where try isEqual(item, call.positional[0]) { return .int(index) }
    throw ChatTemplateError(.value, "value is not in list")
  }

  private func call(_ method: JinjaMethod, of loop: JinjaLoop, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    if method == .cycle {
      guard !call.positional.isEmpty else { throw ChatTemplateError(.type, "no items for cycling given") }
      return call.positional[loop.index % call.positional.count]
    }
    let last = loop.changedValues ?? []
    var isSame = loop.changedValues != nil && last.count == call.positional.count
    for (one, two) in zip(last, call.positional) where isSame { isSame = try isEqual(one, two) }
    loop.changedValues = call.positional
    return .bool(!isSame)
  }

  // MARK: Strings

  private func call(_ method: JinjaMethod, of text: JinjaText, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    switch method {
    case .strip, .lstrip, .rstrip:
      try call.expect(0, 1)
      return .string(
        try strip(text, try call.text(0), leading: method != .rstrip, trailing: method != .lstrip))
    case .split, .rsplit: return try split(text, method, call)
    case .splitlines:
      let keep = try call.bound(to: "keepends")[0]
      return try makeList(try lines(text, keepEnds: keep?.isTrue ?? false).map { .string($0) })
    case .startswith, .endswith: return .bool(try hasAffix(text, method, call))
    case .upper, .lower, .title, .capitalize, .swapcase, .casefold:
      try call.expect(0, 0)
      return .string(try cased(text, method))
    case .replace:
      try call.expect(2, 3)
      let count = try call.integer(2) ?? -1
      return .string(
        try replaced(
          text, try call.positional[0].expectedText(), try call.positional[1].expectedText(), count))
    case .join:
      try call.expect(1, 1)
      return .string(try joined(try elements(of: call.positional[0]), text, mustBeText: true))
    case .find, .rfind, .index, .rindex, .count: return try find(text, method, call)
    case .removeprefix:
      try call.expect(1, 1)
      let part = try call.positional[0].expectedText()
      return .string(text.hasPrefix(part) ? text.slice(part.count, text.count) : text)
    case .removesuffix:
      try call.expect(1, 1)
      let part = try call.positional[0].expectedText()
      return .string(text.hasSuffix(part) ? text.slice(0, text.count - part.count) : text)
    case .partition, .rpartition: return try partition(text, method, call)
    case .zfill, .ljust, .rjust, .center: return .string(try padded(text, method, call))
    default:
      try call.expect(0, 0)
      try stepOverCharacters(of: text)
      return .bool(PythonText.matches(text, method))
    }
  }

  /// The text without white space, or without any of `characters`, at its ends.
  func strip(
    _ text: JinjaText, _ characters: JinjaText?, leading: Bool = true, trailing: Bool = true
  ) throws(ChatTemplateError) -> JinjaText {
    guard let characters else {
      let stripped = text.strippedOfWhitespace(leading: leading, trailing: trailing)
      try step((text.count - stripped.count) >> 3)
      return stripped
    }
    guard characters.count <= 1024 else {
      throw ChatTemplateError(.tooManySteps, "more than 1024 bytes of characters to strip")
    }
    let stripped = text.stripped(leading: leading, trailing: trailing) { text, start, end in
      // A character of UTF-8 is never found inside another one.
      characters.find(text.slice(start, end)) != nil
    }
    try step(((text.count - stripped.count) * (1 + characters.count >> 6)) >> 1)
    return stripped
  }

  private func hasAffix(_ text: JinjaText, _ method: JinjaMethod, _ call: JinjaCall) throws(ChatTemplateError)
    -> Bool
  {
    try call.expect(1, 3)
    var text = text
    if call.positional.count > 1 {
      try step(text.count >> 4)
      let places = JinjaRenderer.places(try call.integer(1), try call.integer(2), 1, text.characterCount)
      let start = text.offset(ofCharacter: places.start)
      let rest = text.slice(start, text.count)
      text = rest.slice(0, rest.offset(ofCharacter: places.count))
    }
    let parts: [JinjaValue]
    if case .list(let list) = call.positional[0], list.isTuple {
      parts = list.items
    } else {
      parts = [call.positional[0]]
    }
    for part in parts {
      let part = try part.expectedText()
      if method == .startswith ? text.hasPrefix(part) : text.hasSuffix(part) { return true }
    }
    return false
  }

  private func split(_ text: JinjaText, _ method: JinjaMethod, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    let values = try call.bound(to: "sep", "maxsplit")
    var most = try values[1].map { (value) throws(ChatTemplateError) in try value.expectedInteger() } ?? -1
    if most < 0 { most = .max }
    var parts: [JinjaValue] = []
    guard let separator = values[0], !separator.isNone else {
      try step(text.count >> 2)
      parts = method == .split ? words(text, most) : wordsFromBack(text, most)
      return try makeList(parts)
    }
    let mark = try separator.expectedText()
    guard !mark.isEmpty else { throw ChatTemplateError(.value, "empty separator") }
    if method == .split {
      var start = 0
      while parts.count < most, let at = try find(mark, in: text, from: start) {
        parts.append(.string(text.slice(start, at)))
        start = at + mark.count
      }
      parts.append(.string(text.slice(start, text.count)))
    } else {
      var end = text.count
      while parts.count < most, let at = try findLast(mark, in: text, before: end) {
        parts.append(.string(text.slice(at + mark.count, end)))
        end = at
      }
      parts.append(.string(text.slice(0, end)))
      parts.reverse()
    }
    return try makeList(parts)
  }

  private func words(_ text: JinjaText, _ most: Int) -> [JinjaValue] {
    var parts: [JinjaValue] = []
    var rest = text.strippedOfWhitespace(trailing: false)
    while !rest.isEmpty {
      if parts.count == most {
        parts.append(.string(rest))
        break
      }
      var end = 0
      while end < rest.count {
        let next = rest.end(ofCharacterAt: end)
        if rest.isSpace(end, next) { break }
        end = next
      }
      parts.append(.string(rest.slice(0, end)))
      rest = rest.slice(end, rest.count).strippedOfWhitespace(trailing: false)
    }
    return parts
  }

  private func wordsFromBack(_ text: JinjaText, _ most: Int) -> [JinjaValue] {
    var parts: [JinjaValue] = []
    var rest = text.strippedOfWhitespace(leading: false)
    while !rest.isEmpty {
      if parts.count == most {
        parts.append(.string(rest))
        break
      }
      var start = rest.count
      while start > 0 {
        let previous = rest.start(ofCharacterBefore: start)
        if rest.isSpace(previous, start) { break }
        start = previous
      }
      parts.append(.string(rest.slice(start, rest.count)))
      rest = rest.slice(0, start).strippedOfWhitespace(leading: false)
    }
    return parts.reversed()
  }

  /// The lines of a text as `str.splitlines()` cuts them.
  func lines(_ text: JinjaText, keepEnds: Bool = false) throws(ChatTemplateError) -> [JinjaText] {
    try step(text.count >> 2)
    var lines: [JinjaText] = []
    var start = 0
    var offset = 0
    while offset < text.count {
      var end = text.end(ofCharacterAt: offset)
      guard PythonText.isLineEnd(text.scalar(offset, end).value) else {
        offset = end
        continue
      }
      if text.base[offset] == 0x0d, end < text.count, text.base[end] == 0x0a { end += 1 }
      lines.append(text.slice(start, keepEnds ? end : offset))
      start = end
      offset = end
    }
    if start < text.count { lines.append(text.slice(start, text.count)) }
    try arena.charge(lines.count * 16)
    return lines
  }

  private func partition(_ text: JinjaText, _ method: JinjaMethod, _ call: JinjaCall)
    throws(ChatTemplateError) -> JinjaValue
  {
    try call.expect(1, 1)
    let mark = try call.positional[0].expectedText()
    guard !mark.isEmpty else { throw ChatTemplateError(.value, "empty separator") }
    let at =
      method == .partition ? try find(mark, in: text) : try findLast(mark, in: text, before: text.count)
    let parts: [JinjaText]
    if let at {
      parts = [text.slice(0, at), mark, text.slice(at + mark.count, text.count)]
    } else {
      parts = method == .partition ? [text, .empty, .empty] : [.empty, .empty, text]
    }
    return try makeList(parts.map { .string($0) }, isTuple: true)
  }

  private func find(_ text: JinjaText, _ method: JinjaMethod, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    try call.expect(1, 3)
    let part = try call.positional[0].expectedText()
    try step(text.count >> 4)
    let places = JinjaRenderer.places(try call.integer(1), try call.integer(2), 1, text.characterCount)
    let start = text.offset(ofCharacter: places.start)
    let rest = text.slice(start, text.count)
    let searched = rest.slice(0, rest.offset(ofCharacter: places.count))
    if method == .count {
      if part.isEmpty { return .int(places.count + 1) }
      var count = 0
      var at = 0
      while let found = try find(part, in: searched, from: at) {
        count += 1
        at = found + part.count
      }
      return .int(count)
    }
    let fromFront = method == .find || method == .index
    let found =
      fromFront ? try find(part, in: searched) : try findLast(part, in: searched, before: searched.count)
    if let at = found {
      return .int(places.start + searched.slice(0, at).characterCount)
    }
    if method == .find || method == .rfind { return .int(-1) }
    throw ChatTemplateError(.value, "substring not found")
  }

  private func padded(_ text: JinjaText, _ method: JinjaMethod, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaText
  {
    try call.expect(1, 2)
    let width = try call.positional[0].expectedInteger()
    let given = try call.text(1) ?? JinjaText(" ")
    let fill = method == .zfill ? JinjaText("0") : given
    guard fill.characterCount == 1 else {
      throw ChatTemplateError(.type, "the fill character must be one character")
    }
    let (missing, overflowed) = width.subtractingReportingOverflow(text.characterCount)
    guard !overflowed, missing > 0 else { return text }
    var left = 0
    switch method {
    case .rjust: left = missing
    case .center: left = missing / 2 + (missing & width & 1)
    default: break
    }
    let before = try repeated(fill, method == .zfill ? missing : left)
    let after = try repeated(fill, method == .zfill ? 0 : missing - left)
    return try capture { () throws(ChatTemplateError) in
      let hasSign = method == .zfill && (text.hasPrefix(JinjaText("-")) || text.hasPrefix(JinjaText("+")))
      if hasSign { output.append(text.slice(0, 1).bytes) }
      output.append(before.bytes)
      output.append(text.slice(hasSign ? 1 : 0, text.count).bytes)
      output.append(after.bytes)
    }
  }
}
