// Runs a compiled template: loops and macros.

extension JinjaRenderer {
  // MARK: for

  func execute(loop: JinjaLoopInfo) throws(ChatTemplateError) {
    let value = try evaluate(loop.iterable)
    var items = try elements(of: value)
    if loop.test >= 0 { items = try filtered(items, loop) }
    if items.isEmpty {
      guard loop.otherwise >= 0 else { return }
      try enter(frame: loop.otherwiseFrame)
      _ = try execute(loop.otherwise)
      return
    }
    var state: JinjaLoop?
    if loop.loopSlot >= 0 {
      let made = JinjaLoop(items: items)
      state = made
      activation.slots[Int(loop.loopSlot)] = .loop(made)
    }
    // It may hold itself by then.
    defer { state?.changedValues = nil }
    let target = program[loop.target]
    for (index, item) in items.enumerated() {
      try step()
      state?.index = index
      if target.kind == .name {
        activation.slots[Int(target.c)] = item
      } else {
        try assign(loop.target, item)
      }
      try enter(frame: loop.bodyFrame)
      if try execute(loop.body) == .breakLoop { break }
    }
  }

  /// The items for which the loop's own `if` holds.
  private func filtered(_ items: [JinjaValue], _ loop: JinjaLoopInfo) throws(ChatTemplateError)
    -> [JinjaValue]
  {
    var kept: [JinjaValue] = []
    for item in items {
      try assign(loop.target, item)
      try enter(frame: loop.testFrame)
      if try evaluate(loop.test).isTrue { kept.append(item) }
    }
    try arena.charge(kept.count * 24)
    return kept
  }

  // MARK: Macros

  /// Runs a macro, or the body of a `call` block, and returns what it wrote.
  func call(
    _ macro: JinjaMacro, _ arguments: JinjaCall
  ) throws(ChatTemplateError) -> JinjaValue {
    let info = program.macros[macro.index]
    let inner = JinjaActivation(parent: macro.scope, count: Int(info.slotCount))
    try arena.charge(48 + 24 * Int(info.slotCount))
    register(inner)
    try bind(arguments, info, inner)
    let outer = activation
    activation = inner
    try descend()
    let text = try capture { () throws(ChatTemplateError) in
      try enter(frame: info.frame)
      try setDefaults(info)
      _ = try execute(info.body)
    }
    ascend()
    activation = outer
    return .string(text)
  }

  /// Gives the arguments of a call to a macro's variables, by the rules of jinja2's `Macro`.
  private func bind(
    _ call: JinjaCall, _ info: JinjaMacroInfo, _ inner: JinjaActivation
  ) throws(ChatTemplateError) {
    let count = Int(info.argumentCount)
    var keywords = call.keywords
    var takesCaller = false
    for index in 0..<count {
      let node = program[program.element(info.argumentStart, Int32(index))]
      let name = program.names[Int(node.a)]
      takesCaller = takesCaller || name.equals("caller")
      if index < call.positional.count {
        inner.slots[Int(node.c)] = call.positional[index]
      } else if let at = keywords.firstIndex(where: { $0.name.equals(name) }) {
        inner.slots[Int(node.c)] = keywords.remove(at: at).value
      }
    }
    if info.callerSlot >= 0, !takesCaller {
      if let at = keywords.firstIndex(where: { $0.name.equals("caller") }) {
        inner.slots[Int(info.callerSlot)] = keywords.remove(at: at).value
      } else {
        inner.slots[Int(info.callerSlot)] = .undefined(JinjaText("caller"))
      }
    }
    let macroName = info.name >= 0 ? program.names[Int(info.name)].string : "caller"
    if info.keywordsSlot >= 0 {
      let rest = JinjaDict()
      for keyword in keywords { rest.set(.string(keyword.name), keyword.value) }
      inner.slots[Int(info.keywordsSlot)] = .dict(rest)
    } else if let extra = keywords.first {
      throw ChatTemplateError(.type, "macro '\(macroName)' takes no keyword argument '\(extra.name.string)'")
    }
    if info.restSlot >= 0 {
      inner.slots[Int(info.restSlot)] = try makeList(Array(call.positional.dropFirst(count)), isTuple: true)
    } else if call.positional.count > count {
      throw ChatTemplateError(.type, "macro '\(macroName)' takes not more than \(count) argument(s)")
    }
  }

  /// Default values of arguments that were not given; they may use the arguments before them.
  private func setDefaults(_ info: JinjaMacroInfo) throws(ChatTemplateError) {
    for index in 0..<info.argumentCount {
      let node = program[program.element(info.argumentStart, index)]
      guard activation.slots[Int(node.c)] == nil else { continue }
      let position = index - (info.argumentCount - info.defaultCount)
      if position >= 0 {
        activation.slots[Int(node.c)] = try evaluate(program.element(info.defaultStart, position))
      } else {
        activation.slots[Int(node.c)] = .undefined(program.names[Int(node.a)])
      }
    }
  }
}
