// Runs a compiled template: filters of sequences and mappings.

extension JinjaRenderer {
  func apply(
    sequence filter: JinjaFilter, to value: JinjaValue, _ call: JinjaCall
  ) throws(ChatTemplateError) -> JinjaValue {
    switch filter {
    case .join:
      let values = try call.bound(to: "d", "attribute")
      var items = try elements(of: value)
      if let attribute = values[1], !attribute.isNone { items = try mapped(items, attribute, nil) }
      return .string(
        try joined(
          items, try values[0].map { (value) throws(ChatTemplateError) in try string(value) } ?? .empty))
    case .items:
      if value.isUndefined { return try makeGenerator([]) }
      guard case .dict(let dict) = value else {
        throw ChatTemplateError(.type, "Can only get item pairs from a mapping.")
      }
      return try makeGenerator(try elements(of: .view(JinjaView(.items, dict))))
    case .list:
      try call.expect(0, 0)
      return try makeList(try elements(of: value))
    case .first:
      if case .generator(let generator) = value {
        return generator.next() ?? .undefined(JinjaText("first item"))
      }
      return try elements(of: value).first ?? .undefined(JinjaText("first item"))
    case .last:
      if case .generator = value { throw ChatTemplateError(.type, "'generator' object is not reversible") }
      return try elements(of: value).last ?? .undefined(JinjaText("last item"))
    case .reverse:
      if case .string(let text) = value {
        return .string(try joined(try elements(of: .string(text)).reversed(), .empty))
      }
      if case .generator = value { return try makeList(try elements(of: value).reversed()) }
      return try makeGenerator(try elements(of: value).reversed())
    case .map, .select, .reject, .selectattr, .rejectattr:
      // Of what is empty or false jinja2 does not even ask whether it can be iterated.
      guard value.isTrue else { return try makeGenerator([]) }
      return filter == .map ? try map(value, call) : try select(filter, value, call)
    case .sort, .unique, .min, .max, .groupby, .dictsort: return try ordered(filter, value, call)
    case .sum: return try sum(value, call)
    case .batch, .slice: return try pieces(filter, value, call)
    default: throw ChatTemplateError(.unsupported, "the filter '\(filter.rawValue)'")
    }
  }

  // MARK: map, select

  /// The item at a dotted path, as the attribute arguments of filters have it.
  func item(path: JinjaValue, of value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard case .string(let text) = path else { return try item(path, of: value) }
    try step(text.count >> 2)
    var value = value
    var start = 0
    let dot = JinjaText(".")
    while true {
      let end = text.find(dot, from: start) ?? text.count
      let part = text.slice(start, end)
      let index = PythonText.matches(part, .isdecimal) ? PythonText.integer(part) : nil
      value = try item(index.map { .int($0) } ?? .string(part), of: value)
      guard end < text.count else { return value }
      start = end + 1
    }
  }

  private func mapped(
    _ items: [JinjaValue], _ attribute: JinjaValue, _ fallback: JinjaValue?
  ) throws(ChatTemplateError) -> [JinjaValue] {
    var values: [JinjaValue] = []
    values.reserveCapacity(items.count)
    for element in items {
      try step()
      let value = try item(path: attribute, of: element)
      values.append(value.isUndefined ? fallback ?? value : value)
    }
    return values
  }

  private func map(_ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    let items = try elements(of: value)
    if call.positional.isEmpty {
      guard let attribute = call.keywords.first(where: { $0.name.equals("attribute") }) else {
        throw ChatTemplateError(.type, "map requires a filter argument")
      }
      let fallback = call.keywords.first { $0.name.equals("default") }
      return try makeGenerator(try mapped(items, attribute.value, fallback?.value))
    }
    let name = try call.positional[0].expectedText()
    guard let filter = JinjaFilter(rawValue: name.string) else {
      throw ChatTemplateError(.unsupported, "no filter named '\(name.string)'")
    }
    let rest = JinjaCall(positional: Array(call.positional.dropFirst()), keywords: call.keywords)
    var values: [JinjaValue] = []
    try descend()
    for element in items {
      try step()
      values.append(try apply(filter, to: element, rest))
    }
    ascend()
    return try makeGenerator(values)
  }

  private func select(_ filter: JinjaFilter, _ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    let byAttribute = filter == .selectattr || filter == .rejectattr
    let isKept = filter == .select || filter == .selectattr
    var arguments = call.positional
    var attribute: JinjaValue?
    if byAttribute {
      guard !arguments.isEmpty else { throw ChatTemplateError(.type, "Missing parameter for attribute name") }
      attribute = arguments.removeFirst()
    }
    var test: JinjaTest?
    if !arguments.isEmpty {
      let name = try arguments.removeFirst().expectedText()
      test = JinjaTest(name: name)
      guard test != nil else { throw ChatTemplateError(.unsupported, "no test named '\(name.string)'") }
    }
    let rest = JinjaCall(positional: arguments, keywords: call.keywords)
    var kept: [JinjaValue] = []
    for element in try elements(of: value) {
      try step()
      let tested =
        try attribute.map { (path) throws(ChatTemplateError) in try item(path: path, of: element) } ?? element
      let holds =
        try test.map { (test) throws(ChatTemplateError) in try apply(test, to: tested, rest) }
        ?? tested.isTrue
      if holds == isKept { kept.append(element) }
    }
    return try makeGenerator(kept)
  }

  // MARK: Order

  private func ordered(_ filter: JinjaFilter, _ value: JinjaValue, _ call: JinjaCall)
    throws(ChatTemplateError) -> JinjaValue
  {
    switch filter {
    case .sort:
      let values = try call.bound(to: "reverse", "case_sensitive", "attribute")
      let items = try elements(of: value)
      let keys = try sortKeys(items, values[2], isCaseSensitive: values[1]?.isTrue ?? false, isList: true)
      return try makeList(try sorted(keys, isReversed: values[0]?.isTrue ?? false).map { items[$0] })
    case .dictsort: return try dictsort(value, call)
    case .groupby:
      let values = try call.bound(to: "attribute", "default", "case_sensitive")
      return try groups(try elements(of: value), values[0] ?? .none, values[1], values[2]?.isTrue ?? false)
    default: break
    }
    let values = try call.bound(to: "case_sensitive", "attribute")
    let items = try elements(of: value)
    let keys = try sortKeys(items, values[1], isCaseSensitive: values[0]?.isTrue ?? false, isList: false)
    if filter == .unique {
      // A mapping as the set of what has been seen.
      let seen = JinjaDict()
      var kept: [JinjaValue] = []
      for (item, key) in zip(items, keys) {
        try step()
        guard key.isHashable else { throw ChatTemplateError(.type, "unhashable type: '\(key.typeName)'") }
        if key.text == nil { try step(seen.count) }
        guard seen.value(key) == nil else { continue }
        seen.set(key, .none)
        kept.append(item)
      }
      return try makeGenerator(kept)
    }
    guard var best = items.indices.first else { return .undefined(JinjaText("aggregated item")) }
    for index in items.indices.dropFirst() {
      let isBetter =
        filter == .min ? try isLess(keys[index], keys[best]) : try isLess(keys[best], keys[index])
      if isBetter { best = index }
    }
    return items[best]
  }

  /// What the items are ordered by: themselves or an attribute, in lower case unless told otherwise. With `isList` the
  /// attribute may name several, with commas between them.
  private func sortKeys(
    _ items: [JinjaValue], _ attribute: JinjaValue?, isCaseSensitive: Bool, isList: Bool
  ) throws(ChatTemplateError) -> [JinjaValue] {
    var keys: [JinjaValue] = []
    keys.reserveCapacity(items.count)
    var paths: [JinjaValue] = []
    if let attribute, !attribute.isNone {
      if isList, case .string(let text) = attribute {
        var start = 0
        while true {
          let end = text.find(JinjaText(","), from: start) ?? text.count
          paths.append(.string(text.slice(start, end)))
          guard end < text.count else { break }
          start = end + 1
        }
      } else {
        paths = [attribute]
      }
    }
    for element in items {
      try step()
      var parts: [JinjaValue] = []
      if paths.isEmpty { parts.append(element) }
      for path in paths { parts.append(try item(path: path, of: element)) }
      if !isCaseSensitive {
        for index in parts.indices { parts[index] = try folded(parts[index]) }
      }
      // As a list even when it is one: of undefined values in lists Python can tell that they are equal.
      keys.append(isList ? try makeList(parts) : parts[0])
    }
    return keys
  }

  private func folded(_ value: JinjaValue) throws(ChatTemplateError) -> JinjaValue {
    guard case .string(let text) = value else { return value }
    return .string(try cased(text, .lower))
  }

  /// The positions of the keys in order; equal keys keep theirs.
  private func sorted(_ keys: [JinjaValue], isReversed: Bool) throws(ChatTemplateError) -> [Int] {
    var order = Array(keys.indices)
    var scratch = order
    var width = 1
    // Merging bottom-up: the comparison may throw, which the library's sort takes only untyped.
    while width < order.count {
      var start = 0
      while start < order.count {
        let middle = min(start + width, order.count)
        let end = min(start + 2 * width, order.count)
        var left = start
        var right = middle
        for place in start..<end {
          try step()
          var takesLeft = left < middle
          if takesLeft, right < end {
            takesLeft =
              isReversed
              ? try !isLess(keys[order[left]], keys[order[right]])
              : try !isLess(keys[order[right]], keys[order[left]])
          }
          scratch[place] = takesLeft ? order[left] : order[right]
          if takesLeft { left += 1 } else { right += 1 }
        }
        start = end
      }
      swap(&order, &scratch)
      width *= 2
    }
    return order
  }

  private func dictsort(_ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    let values = try call.bound(to: "case_sensitive", "by", "reverse")
    if case .undefined(let name) = value { throw undefined(name) }
    guard case .dict(let dict) = value else { throw ChatTemplateError(.type, "dictsort takes a mapping") }
    let by =
      try values[1].map { (value) throws(ChatTemplateError) in try value.expectedText() } ?? JinjaText("key")
    guard by.equals("key") || by.equals("value") else {
      throw ChatTemplateError(.value, "You can only sort by either \"key\" or \"value\"")
    }
    let items = try elements(of: .view(JinjaView(.items, dict)))
    let keys = try sortKeys(
      by.equals("key") ? dict.keys : dict.values, nil, isCaseSensitive: values[0]?.isTrue ?? false,
      isList: false)
    return try makeList(try sorted(keys, isReversed: values[2]?.isTrue ?? false).map { items[$0] })
  }

  private func groups(
    _ items: [JinjaValue], _ attribute: JinjaValue, _ fallback: JinjaValue?, _ isCaseSensitive: Bool
  ) throws(ChatTemplateError) -> JinjaValue {
    let values = try mapped(items, attribute, fallback)
    var keys = values
    if !isCaseSensitive {
      for index in keys.indices { keys[index] = try folded(keys[index]) }
    }
    var groups: [JinjaValue] = []
    var members: [JinjaValue] = []
    var first = 0
    let order = try sorted(keys, isReversed: false)
    for (place, position) in order.enumerated() {
      if members.isEmpty { first = position }
      members.append(items[position])
      var isLast = place + 1 == order.count
      if !isLast { isLast = try !isEqual(keys[order[place + 1]], keys[position]) }
      if isLast {
        groups.append(try makeList([values[first], try makeList(members)], isTuple: true, isGroup: true))
        members = []
      }
    }
    return try makeList(groups)
  }

  // MARK: Sums and pieces

  private func sum(_ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError) -> JinjaValue {
    let values = try call.bound(to: "attribute", "start")
    var items = try elements(of: value)
    if let attribute = values[0], !attribute.isNone { items = try mapped(items, attribute, nil) }
    var total = values[1] ?? .int(0)
    if case .string = total { throw ChatTemplateError(.type, "sum() can't sum strings") }
    for element in items { total = try calculate(.add, total, element) }
    return total
  }

  private func pieces(_ filter: JinjaFilter, _ value: JinjaValue, _ call: JinjaCall) throws(ChatTemplateError)
    -> JinjaValue
  {
    let values = try call.bound(to: filter == .batch ? "linecount" : "slices", "fill_with")
    let count = try (values[0] ?? .none).expectedInteger()
    let items = try elements(of: value)
    guard count > 0, count <= limits.rangeLengthMax else {
      throw ChatTemplateError(.value, "a count of \(count)")
    }
    var pieces: [JinjaValue] = []
    if filter == .batch {
      var start = 0
      while start < items.count {
        var piece = Array(items[start..<min(start + count, items.count)])
        if let fill = values[1], !fill.isNone {
          try arena.charge(24 * count)
          while piece.count < count { piece.append(fill) }
        }
        pieces.append(try makeList(piece))
        start += count
      }
      return try makeGenerator(pieces)
    }
    let size = items.count / count
    let larger = items.count % count
    var start = 0
    for index in 0..<count {
      let end = start + size + (index < larger ? 1 : 0)
      var piece = Array(items[start..<end])
      if let fill = values[1], !fill.isNone, index >= larger { piece.append(fill) }
      pieces.append(try makeList(piece))
      start = end
    }
    return try makeGenerator(pieces)
  }
}
