// Gives every name of a template its variable: first what each frame uses and stores, then the numbers in the nodes.

/// Walks a program twice, frame by frame, as jinja2's id tracking and code generation do.
struct JinjaResolver {
  private let program: JinjaProgram

  /// Resolves all names of `program`.
  static func resolve(_ program: JinjaProgram) {
    let resolver = JinjaResolver(program: program)
    let function = JinjaFunctionScope(level: 0)
    let symbols = JinjaSymbols(parent: nil, function: function)
    resolver.inspect(program.root, symbols)
    resolver.settle(program.root, symbols)
    program.rootFrame = resolver.addFrame(symbols)
    program.rootSlotCount = function.slotCount
  }

  // MARK: What a frame uses

  /// Notes the names of statement `id`; stops at frames within it.
  private func inspect(_ id: JinjaNodeID, _ symbols: JinjaSymbols) {
    guard id >= 0 else { return }
    let node = program[id]
    switch node.kind {
    case .data, .breakLoop, .continueLoop, .scope: break
    case .print: inspect(expression: node.a, symbols)
    case .block: for child in program.list(node.a, node.b) { inspect(child, symbols) }
    case .branch:
      inspect(expression: node.a, symbols)
      let body = symbols.branch()
      inspect(node.b, body)
      let otherwise = symbols.branch()
      inspect(node.c, otherwise)
      symbols.merge([body, otherwise])
    case .loop: inspect(expression: program.loops[Int(node.a)].iterable, symbols)
    case .assign:
      inspect(expression: node.b, symbols)
      inspect(target: node.a, symbols)
    case .assignBlock: inspect(target: node.a, symbols)
    case .macro: inspect(target: node.a, symbols)
    case .callBlock: inspect(expression: node.a, symbols)
    case .filterBlock: inspect(expression: node.b, symbols)
    case .with:
      for pair in 0..<(node.b / 2) { inspect(expression: program.element(node.a, pair * 2 + 1), symbols) }
    default: break
    }
  }

  private func inspect(expression id: JinjaNodeID, _ symbols: JinjaSymbols) {
    guard id >= 0 else { return }
    if program[id].kind == .name {
      symbols.load(program[id].a)
    } else {
      program.forEachChild(id) { inspect(expression: $0, symbols) }
    }
  }

  private func inspect(target id: JinjaNodeID, _ symbols: JinjaSymbols, asParameter: Bool = false) {
    let node = program[id]
    switch node.kind {
    case .name where asParameter: symbols.declare(node.a)
    case .name: symbols.store(node.a)
    case .namespaceAttribute: symbols.load(program[node.a].a)
    default:
      for child in program.list(node.a, node.b) { inspect(target: child, symbols, asParameter: asParameter) }
    }
  }

  // MARK: Numbers for the nodes

  /// Settles the names of statement `id`, whose frame `symbols` is complete, and of the frames within it.
  private func settle(_ id: JinjaNodeID, _ symbols: JinjaSymbols) {
    guard id >= 0 else { return }
    let node = program[id]
    switch node.kind {
    case .print: settle(names: node.a, symbols)
    case .block: for child in program.list(node.a, node.b) { settle(child, symbols) }
    case .branch:
      settle(names: node.a, symbols)
      settle(node.b, symbols)
      settle(node.c, symbols)
    case .loop: settle(loop: Int(node.a), symbols)
    case .assign:
      settle(names: node.b, symbols)
      settle(names: node.a, symbols)
    case .assignBlock, .filterBlock, .scope:
      if node.kind == .assignBlock { settle(names: node.a, symbols) }
      let inner = JinjaSymbols(parent: symbols, function: symbols.function)
      inspect(program.scopes[Int(node.c)].body, inner)
      if node.b >= 0 { inspect(expression: node.b, inner) }
      settle(scope: Int(node.c), inner)
      if node.b >= 0 { settle(names: node.b, inner) }
    case .with:
      let inner = JinjaSymbols(parent: symbols, function: symbols.function)
      for pair in 0..<(node.b / 2) {
        settle(names: program.element(node.a, pair * 2 + 1), symbols)
        inspect(target: program.element(node.a, pair * 2), inner, asParameter: true)
      }
      inspect(program.scopes[Int(node.c)].body, inner)
      for pair in 0..<(node.b / 2) { settle(names: program.element(node.a, pair * 2), inner) }
      settle(scope: Int(node.c), inner)
    case .macro:
      settle(names: node.a, symbols)
      settle(macro: Int(node.b), symbols)
    case .callBlock:
      settle(names: node.a, symbols)
      settle(macro: Int(node.b), symbols)
    default: break
    }
  }

  private func settle(scope: Int, _ inner: JinjaSymbols) {
    settle(program.scopes[scope].body, inner)
    program.scopes[scope].frame = addFrame(inner)
  }

  private func settle(loop index: Int, _ symbols: JinjaSymbols) {
    let loop = program.loops[index]
    settle(names: loop.iterable, symbols)
    let body = JinjaSymbols(parent: symbols, function: symbols.function)
    if let name = mentioned("loop", in: loop.bodyNodes) { program.loops[index].loopSlot = body.declare(name) }
    inspect(target: loop.target, body, asParameter: true)
    // The test sees the loop's targets, in the body's own variables, but nothing that the body sets.
    let test = JinjaSymbols(parent: body.branch(), function: symbols.function)
    inspect(loop.body, body)
    settle(names: loop.target, body)
    settle(loop.body, body)
    if loop.test >= 0 {
      inspect(expression: loop.test, test)
      settle(names: loop.test, test)
      program.loops[index].testFrame = addFrame(test)
    }
    if loop.otherwise >= 0 {
      let otherwise = JinjaSymbols(parent: symbols, function: symbols.function)
      inspect(loop.otherwise, otherwise)
      settle(loop.otherwise, otherwise)
      program.loops[index].otherwiseFrame = addFrame(otherwise)
    }
    program.loops[index].bodyFrame = addFrame(body)
  }

  private func settle(macro index: Int, _ symbols: JinjaSymbols) {
    let macro = program.macros[index]
    let function = JinjaFunctionScope(level: symbols.function.level + 1)
    let inner = JinjaSymbols(parent: symbols, function: function)
    for argument in program.list(macro.argumentStart, macro.argumentCount) {
      inspect(target: argument, inner, asParameter: true)
    }
    for value in program.list(macro.defaultStart, macro.defaultCount) { inspect(expression: value, inner) }
    if let name = mentioned("caller", in: macro.bodyNodes), !takes(name, macro) {
      program.macros[index].callerSlot = inner.declare(name)
    }
    if let name = mentioned("kwargs", in: macro.bodyNodes), !takes(name, macro) {
      program.macros[index].keywordsSlot = inner.declare(name)
    }
    if let name = mentioned("varargs", in: macro.bodyNodes), !takes(name, macro) {
      program.macros[index].restSlot = inner.declare(name)
    }
    inspect(macro.body, inner)
    for argument in program.list(macro.argumentStart, macro.argumentCount) { settle(names: argument, inner) }
    for value in program.list(macro.defaultStart, macro.defaultCount) { settle(names: value, inner) }
    settle(macro.body, inner)
    program.macros[index].frame = addFrame(inner)
    program.macros[index].slotCount = function.slotCount
  }

  private func takes(_ name: Int32, _ macro: JinjaMacroInfo) -> Bool {
    program.list(macro.argumentStart, macro.argumentCount).contains { program[$0].a == name }
  }

  /// Settles every name in expression or target `id`.
  private func settle(names id: JinjaNodeID, _ symbols: JinjaSymbols) {
    guard id >= 0 else { return }
    let node = program[id]
    guard node.kind == .name else {
      program.forEachChild(id) { settle(names: $0, symbols) }
      return
    }
    guard let variable = symbols.find(node.a) else { return }
    program.nodes[Int(id)].b = symbols.function.level - variable.function
    program.nodes[Int(id)].c = variable.slot
  }

  /// The number of `word` if a node in `range` reads or sets a variable of that name.
  private func mentioned(_ word: StaticString, in range: Range<Int32>) -> Int32? {
    guard let name = program.known(JinjaText(word)) else { return nil }
    return range.contains { program[$0].kind == .name && program[$0].a == name } ? name : nil
  }

  /// Writes down what happens when a frame is entered.
  private func addFrame(_ symbols: JinjaSymbols) -> Int32 {
    let start = Int32(program.loads.count)
    for (name, variable, load) in symbols.frameLoads {
      switch load {
      case .parameter: break
      case .context: program.loads.append(JinjaLoad(slot: variable.slot, source: .context, from: name))
      case .undefined: program.loads.append(JinjaLoad(slot: variable.slot, source: .undefined))
      case .alias(let outer):
        program.loads.append(
          JinjaLoad(
            slot: variable.slot, source: .alias, from: outer.slot,
            hops: symbols.function.level - outer.function))
      }
    }
    program.frames.append((start, Int32(program.loads.count) - start))
    return Int32(program.frames.count - 1)
  }
}
