// Runs a compiled template: attributes, items and slices.

extension JinjaRenderer {
  /// `value.name`: a method, else an item of that name, by the rules of jinja2's sandbox.
  func attribute(_ name: Int32, of value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    let text = program.names[Int(name)]
    if let method = program.methods[Int(name)] {
      switch method.access(value) {
      case .allowed:
        try checkDepth(value.depth + 1)
        return .method(JinjaBoundMethod(value, method))
      case .forbidden: return unsafe(text)
      case .none: break
      }
    }
    return try attribute(text, of: value)
  }

  /// An attribute that is no method.
  private func attribute(_ name: JinjaText, of value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    switch value {
    case .dict(let dict):
      if dict.count > 12 { try step() }
      if let found = dict.value(name) { return found }
    case .namespace(let namespace):
      if let found = namespace.attributes.value(name) { return found }
    case .loop(let loop):
      if let found = attribute(name, of: loop) { return found }
    case .undefined(let missing): throw undefined(missing)
    case .list(let list) where list.isGroup:
      if name.equals("grouper") { return list.items[0] }
      if name.equals("list") { return list.items[1] }
    case .macro(let macro):
      if name.equals("name") {
        let name = program.macros[macro.index].name
        return name >= 0 ? .string(program.names[Int(name)]) : .none
      }
    case .cycler(let cycler):
      if name.equals("current") { return cycler.items[cycler.position] }
    default: break
    }
    return .undefined(name.with(flags: JinjaText.attribute))
  }

  /// What the sandbox gives for what it forbids: a value that is undefined, and raises when it is called.
  private func unsafe(_ name: JinjaText) -> JinjaValue { .undefined(name.with(flags: JinjaText.attribute)) }

  /// The error of using an undefined value.
  func undefined(_ name: JinjaText) -> ChatTemplateError {
    let name = name.slice(0, name.boundary(before: 200))
    if name.flags & JinjaText.attribute != 0 {
      return ChatTemplateError(.undefined, "there is no attribute '\(name.string)'")
    }
    return ChatTemplateError(.undefined, "'\(name.string)' is undefined")
  }

  private func attribute(_ name: JinjaText, of loop: JinjaLoop) -> JinjaValue? {
    let count = loop.items.count
    switch name.string {
    case "index": return .int(loop.index + 1)
    case "index0": return .int(loop.index)
    case "first": return .bool(loop.index == 0)
    case "last": return .bool(loop.index == count - 1)
    case "length": return .int(count)
    case "revindex": return .int(count - loop.index)
    case "revindex0": return .int(count - loop.index - 1)
    case "depth": return .int(1)
    case "depth0": return .int(0)
    case "previtem": return loop.index > 0 ? loop.items[loop.index - 1] : .undefined(name)
    case "nextitem": return loop.index + 1 < count ? loop.items[loop.index + 1] : .undefined(name)
    default: return nil
    }
  }

  // MARK: Items

  /// The value of a hashable key. Keys that are no strings are looked for one by one.
  func value(_ key: JinjaValue, of dict: JinjaDict) throws(ChatTemplateError) -> JinjaValue? {
    try step(key.text == nil ? key.weight + dict.count >> 2 : key.weight >> 2)
    return dict.value(key)
  }

  func item(_ node: JinjaNode) throws(ChatTemplateError) -> JinjaValue {
    let value = try evaluate(node.a)
    let key = program[node.b]
    if key.kind == .slice { return try slice(value, key) }
    return try item(try evaluate(node.b), of: value)
  }

  /// `value[key]`: an item, else an attribute of that name, else undefined.
  func item(_ key: JinjaValue, of value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    switch value {
    case .undefined(let name): throw undefined(name)
    case .dict(let dict):
      if key.isHashable, let found = try self.value(key, of: dict) { return found }
    case .list(let list):
      if let index = key.integer, let position = position(index, list.items.count) {
        return list.items[position]
      }
    case .string(let text):
      if let index = key.integer { return try character(index, of: text) }
    case .range(let range):
      if let index = key.integer, let position = position(index, range.count) {
        return .int(range.start + position * range.step)
      }
    default: break
    }
    if case .string(let name) = key {
      if let known = program.known(name) { return try methodOrUndefined(known, name, of: value) }
      if case .dict = value { return .undefined(name.with(flags: JinjaText.attribute)) }
      return try attribute(name, of: value)
    }
    return .undefined(try string(key).with(flags: JinjaText.attribute))
  }

  private func methodOrUndefined(
    _ known: Int32, _ name: JinjaText, of value: JinjaValue
  ) throws(ChatTemplateError) -> JinjaValue {
    if let method = program.methods[Int(known)], case .allowed = method.access(value) {
      try checkDepth(value.depth + 1)
      return .method(JinjaBoundMethod(value, method))
    }
    if case .dict = value { return .undefined(name.with(flags: JinjaText.attribute)) }
    return try attribute(name, of: value)
  }

  /// The place of a Python index in `count` elements; nil outside.
  private func position(_ index: Int, _ count: Int) -> Int? {
    let position = index < 0 ? index + count : index
    return position >= 0 && position < count ? position : nil
  }

  private func character(_ index: Int, of text: JinjaText) throws(ChatTemplateError) -> JinjaValue {
    try stepOver(bytes: text.count)
    let count = text.characterCount
    guard let position = position(index, count) else {
      return .undefined(JinjaText("index out of range"))
    }
    if count != text.count { try step(text.count >> 4) }
    let start = count == text.count ? position : text.offset(ofCharacter: position)
    return .string(text.slice(start, text.end(ofCharacterAt: start)))
  }

  // MARK: Slices

  private func slice(_ value: JinjaValue, _ key: JinjaNode) throws(ChatTemplateError) -> JinjaValue {
    let first = try bound(key.a)
    let end = try bound(key.b)
    let step = try bound(key.c) ?? 1
    guard step != 0 else { throw ChatTemplateError(.value, "slice step cannot be zero") }
    switch value {
    case .string(let text):
      try self.step(text.count >> 5)
      return .string(try slice(text, first, end, step))
    case .list(let list):
      let places = JinjaRenderer.places(first, end, step, list.items.count)
      if step == 1 {
        return try makeList(
          Array(list.items[places.start..<(places.start + places.count)]), isTuple: list.isTuple)
      }
      return try makeList(
        (0..<places.count).map { list.items[places.start + $0 * step] }, isTuple: list.isTuple)
    case .range(let range):
      let places = JinjaRenderer.places(first, end, step, range.count)
      let (newStep, overflowed) = range.step.multipliedReportingOverflow(by: step)
      if overflowed { throw ChatTemplateError(.value, "slice step out of range") }
      return .range(
        JinjaRange(start: range.start + places.start * range.step, step: newStep, count: places.count))
    case .undefined(let name): throw undefined(name)
    default: throw ChatTemplateError(.type, "'\(value.typeName)' object cannot be sliced")
    }
  }

  private func bound(_ id: JinjaNodeID) throws(ChatTemplateError) -> Int? {
    guard id >= 0 else { return nil }
    let value = try evaluate(id)
    if value.isNone { return nil }
    guard let number = value.integer else {
      throw ChatTemplateError(.type, "slice indices must be integers or None")
    }
    return number
  }

  private func slice(
    _ text: JinjaText, _ first: Int?, _ end: Int?, _ step: Int
  ) throws(ChatTemplateError) -> JinjaText {
    let count = text.characterCount
    let places = JinjaRenderer.places(first, end, step, count)
    if places.count == 0 { return .empty }
    let isASCII = count == text.count
    if step != 1 { try self.step(count >> 2) }
    if step == 1 {
      let start = isASCII ? places.start : text.offset(ofCharacter: places.start)
      let rest = text.slice(start, text.count)
      return rest.slice(0, isASCII ? places.count : rest.offset(ofCharacter: places.count))
    }
    var starts: [Int] = []
    if !isASCII {
      try arena.charge(count * 8)
      var offset = 0
      while offset < text.count {
        starts.append(offset)
        offset = text.end(ofCharacterAt: offset)
      }
    }
    let room = try arena.allocate(text.count)
    var length = 0
    for index in 0..<places.count {
      let character = places.start + index * step
      let start = isASCII ? character : starts[character]
      for offset in start..<text.end(ofCharacterAt: start) {
        room[length] = text.base[offset]
        length += 1
      }
    }
    return JinjaText(room, length)
  }

  /// The first place and the number of places that a Python slice takes of `count` elements.
  static func places(_ first: Int?, _ end: Int?, _ step: Int, _ count: Int) -> (start: Int, count: Int) {
    let lowest = step > 0 ? 0 : -1
    let highest = step > 0 ? count : count - 1
    func clamped(_ bound: Int) -> Int {
      let place = bound < 0 ? max(bound, -count - 1) + count : bound
      return min(max(place, lowest), highest)
    }
    let start = first.map(clamped) ?? (step > 0 ? 0 : count - 1)
    let stop = end.map(clamped) ?? (step > 0 ? count : -1)
    if step > 0 {
      return start < stop ? (start, (stop - start - 1) / step + 1) : (0, 0)
    }
    // The smallest step's magnitude is beyond Int, but then one element at most is taken.
    let size = step == .min ? Int.max : -step
    return stop < start ? (start, (start - stop - 1) / size + 1) : (0, 0)
  }
}
