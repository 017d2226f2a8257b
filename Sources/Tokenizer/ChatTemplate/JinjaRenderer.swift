// Runs a compiled template: state, bounds and statements.

internal import Base

/// One rendering. Confined to one thread and used once.
final class JinjaRenderer {
  let program: JinjaProgram
  let limits: ChatTemplateLimits
  let arena: JinjaArena
  let now: ChatTemplateTime
  /// What has been written; the tail of it while a block is captured.
  var output: ByteBuffer
  /// The variables of the function that runs.
  var activation: JinjaActivation
  /// Values from outside by the program's names.
  private(set) var context: [JinjaValue?]
  private var stepsLeft: Int
  private var depth = 0
  /// What may hold itself, emptied at the end.
  private var namespaces: [JinjaNamespace] = []
  private var activations: [JinjaActivation] = []

  /// How a statement ended.
  enum Flow { case normal, breakLoop, continueLoop }

  /// `capacity` is about how long the text will be; it also allows four steps a byte.
  init(
    program: JinjaProgram, limits: ChatTemplateLimits, arena: JinjaArena, now: ChatTemplateTime,
    capacity: Int = 1024
  ) {
    self.program = program
    self.limits = limits
    self.arena = arena
    self.now = now
    output = ByteBuffer(capacity: min(capacity, 1 << 20))
    context = program.globals
    stepsLeft = limits.stepsMax + 4 * capacity
    activation = JinjaActivation(parent: nil, count: Int(program.rootSlotCount))
    activations.append(activation)
  }

  deinit {
    // A macro holds the variables around it, which hold the macro; a namespace may hold itself.
    for activation in activations { activation.slots = [] }
    for namespace in namespaces { namespace.attributes = JinjaDict() }
  }

  /// Gives the template a value under a name, if it has the name at all.
  func define(_ name: JinjaText, _ value: JinjaValue) {
    if let known = program.known(name) { context[Int(known)] = value }
  }

  /// Runs the whole template; ``output`` then holds the text.
  func run() throws(ChatTemplateError) {
    try enter(frame: program.rootFrame)
    _ = try execute(program.root)
  }

  // MARK: Bounds

  /// Counts work that a template causes: one for a statement or expression, more for long operations.
  func step(_ count: Int = 1) throws(ChatTemplateError) {
    stepsLeft -= count
    if stepsLeft < 0 {
      throw ChatTemplateError(.tooManySteps, "more than \(limits.stepsMax) steps")
    }
  }

  /// Counts an operation over `bytes` bytes.
  func stepOver(bytes: Int) throws(ChatTemplateError) { try step(bytes >> 6) }

  func descend() throws(ChatTemplateError) {
    depth += 1
    if depth > limits.evaluationDepthMax {
      throw ChatTemplateError(
        .recursionTooDeep, "evaluation nests more than \(limits.evaluationDepthMax) deep")
    }
  }

  func ascend() { depth -= 1 }

  func checkOutput() throws(ChatTemplateError) {
    if output.count > limits.outputBytesMax {
      throw ChatTemplateError(.outputTooLarge, "more than \(limits.outputBytesMax) bytes of text")
    }
  }

  func register(_ namespace: JinjaNamespace) { namespaces.append(namespace) }

  func register(_ activation: JinjaActivation) { activations.append(activation) }

  // MARK: Frames and captures

  /// Gives the variables of a frame their first values.
  func enter(frame: Int32) throws(ChatTemplateError) {
    let (start, count) = program.frames[Int(frame)]
    for index in start..<(start + count) {
      let load = program.loads[Int(index)]
      switch load.source {
      case .context: activation.slots[Int(load.slot)] = context[Int(load.from)]
      case .undefined: activation.slots[Int(load.slot)] = nil
      case .alias:
        var owner = activation
        for _ in 0..<load.hops { owner = owner.parent ?? owner }
        activation.slots[Int(load.slot)] = owner.slots[Int(load.from)]
      }
    }
  }

  /// What `body` writes, as a string.
  func capture(
    _ body: () throws(ChatTemplateError) -> Void
  ) throws(ChatTemplateError) -> JinjaText {
    let start = output.count
    try body()
    let text = try arena.copy(output.readable.slice(start..<output.count))
    output.truncate(to: start)
    return text
  }

  // MARK: Statements

  func execute(_ id: JinjaNodeID) throws(ChatTemplateError) -> Flow {
    let node = program[id]
    do {
      return try execute(node)
    } catch {
      throw error.at(line: Int(node.line))
    }
  }

  private func execute(_ node: JinjaNode) throws(ChatTemplateError) -> Flow {
    try step()
    switch node.kind {
    case .data:
      if case .string(let text) = program.constants[Int(node.a)] { output.append(text.bytes) }
      try checkOutput()
    case .print: try write(expression: node.a)
    case .block:
      try descend()
      for index in 0..<node.b {
        let flow = try execute(program.element(node.a, index))
        if flow != .normal {
          ascend()
          return flow
        }
      }
      ascend()
    case .branch: return try execute(branch: node)
    case .loop: try execute(loop: program.loops[Int(node.a)])
    case .assign: try assign(node.a, try evaluate(node.b))
    case .assignBlock, .filterBlock: return try execute(captured: node)
    case .macro:
      try assign(node.a, .macro(JinjaMacro(index: Int(node.b), scope: activation)))
    case .callBlock:
      let caller = JinjaValue.macro(JinjaMacro(index: Int(node.b), scope: activation))
      try write(try call(program[node.a], caller: caller))
    case .with:
      var values: [JinjaValue] = []
      for pair in 0..<(node.b / 2) { values.append(try evaluate(program.element(node.a, pair * 2 + 1))) }
      for (pair, value) in values.enumerated() { try assign(program.element(node.a, Int32(pair) * 2), value) }
      return try execute(scope: node.c)
    case .scope: return try execute(scope: node.c)
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    default: break
    }
    return .normal
  }

  private func execute(branch node: JinjaNode) throws(ChatTemplateError) -> Flow {
    var node = node
    while true {
      if try evaluate(node.a).isTrue { return try execute(node.b) }
      guard node.c >= 0 else { return .normal }
      let next = program[node.c]
      guard next.kind == .branch else { return try execute(node.c) }
      node = next
      try step()
    }
  }

  private func execute(scope: Int32) throws(ChatTemplateError) -> Flow {
    let scope = program.scopes[Int(scope)]
    try enter(frame: scope.frame)
    return try execute(scope.body)
  }

  /// A `set` or `filter` block: what it writes becomes a value.
  private func execute(captured node: JinjaNode) throws(ChatTemplateError) -> Flow {
    var flow = Flow.normal
    let text = try capture { () throws(ChatTemplateError) in flow = try execute(scope: node.c) }
    guard flow == .normal else { return flow }
    let value = node.b >= 0 ? try evaluate(filter: program[node.b], block: .string(text)) : .string(text)
    if node.kind == .assignBlock { try assign(node.a, value) } else { try write(value) }
    return .normal
  }

  /// Gives a name, each of several names, or an attribute of a namespace its value.
  func assign(_ target: JinjaNodeID, _ value: JinjaValue) throws(ChatTemplateError) {
    let node = program[target]
    switch node.kind {
    case .name: activation.slots[Int(node.c)] = value
    case .namespaceAttribute:
      guard case .namespace(let namespace) = try evaluate(node.a) else {
        throw ChatTemplateError(.type, "cannot assign attribute on non-namespace object")
      }
      try checkDepth(value.depth + 1)
      try set(namespace, program.names[Int(node.b)], value)
    default:
      let elements = try self.elements(of: value)
      guard elements.count == Int(node.b) else {
        throw ChatTemplateError(.value, "\(elements.count) values for \(node.b) names")
      }
      for index in 0..<node.b { try assign(program.element(node.a, index), elements[Int(index)]) }
    }
  }

  func set(_ namespace: JinjaNamespace, _ name: JinjaText, _ value: JinjaValue) throws(ChatTemplateError) {
    if name.hasPrefix(JinjaText("_")) {
      throw ChatTemplateError(.security, "an attribute of a namespace whose name starts with an underscore")
    }
    try arena.charge(48)
    namespace.attributes.set(.string(name), value)
  }
}
