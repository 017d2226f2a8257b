// Whether a template runs over the parts of a message's content, found in its tree as the engines find it.

/// Looks in a template's tree for a loop over the content of a message.
struct ChatContentDetector {
  private let program: JinjaProgram

  init(_ program: JinjaProgram) {
    self.program = program
  }

  /// vLLM's way (`_iter_nodes_assign_content_item`): a loop over the content of the variable of any loop over the
  /// messages, over a macro's argument that is given such a content, or outside macros over a variable `content`.
  func loopsOverContent() -> Bool {
    guard let messages = messageNames() else { return false }
    let arguments = contentArguments(messages)
    let content = program.known(JinjaText("content"))
    return program.loops.contains { loop in
      if messages.contains(where: { isAccess(loop.iterable, $0, key: "content") }) { return true }
      let node = program[loop.iterable]
      guard node.kind == .name else { return false }
      let around = program.macros.indices.filter { index in
        program.macros[index].name >= 0 && program.macros[index].bodyNodes.contains(loop.iterable)
      }
      if around.isEmpty { return node.a == content }
      return around.contains { arguments[$0]?.contains(node.a) ?? false }
    }
  }

  /// SGLang's way: a loop over the content of a variable with one of the usual names.
  func loopsOverContentByName() -> Bool {
    let messages = ["message", "msg", "m"].compactMap { program.known(JinjaText($0)) }
    return messages.contains { name in
      program.loops.contains { isAccess($0.iterable, name, key: "content") }
    }
  }

  /// Names of variables that loops over the messages have; nil where vLLM gives up, on a loop with several of them.
  private func messageNames() -> [Int32]? {
    guard let aliases = aliases(of: "messages") else { return nil }
    var names: [Int32] = []
    for loop in program.loops where aliases.contains(where: { isAccess(loop.iterable, $0, key: nil) }) {
      guard program[loop.target].kind == .name else { return nil }
      names.append(program[loop.target].a)
    }
    return names
  }

  /// The name and all names that are assigned it, or elements of it; nil when something else than a name is.
  private func aliases(of word: StaticString) -> [Int32]? {
    guard let name = program.known(JinjaText(word)) else { return [] }
    var names = [name]
    var next = 0
    while next < names.count {
      for node in program.nodes where node.kind == .assign && isAccess(node.b, names[next], key: nil) {
        let target = program[node.a]
        guard target.kind == .name else { return nil }
        if !names.contains(target.a) { names.append(target.a) }
      }
      next += 1
    }
    return names
  }

  /// The arguments of each macro that some call gives a message's content.
  private func contentArguments(_ messages: [Int32]) -> [Int: Set<Int32>] {
    var found: [Int: Set<Int32>] = [:]
    func isContent(_ id: JinjaNodeID) -> Bool { messages.contains { isAccess(id, $0, key: "content") } }
    for call in program.nodes where call.kind == .call && program[call.a].kind == .name {
      let given = program.arguments[Int(call.b)]
      for (index, macro) in program.macros.enumerated() where macro.name == program[call.a].a {
        let names = program.list(macro.argumentStart, macro.argumentCount).map { program[$0].a }
        for (name, value) in zip(names, program.list(given.start, given.count)) where isContent(value) {
          found[index, default: []].insert(name)
        }
        for pair in 0..<given.keywordCount {
          let name = program.element(given.keywordStart, pair * 2)
          if names.contains(name), isContent(program.element(given.keywordStart, pair * 2 + 1)) {
            found[index, default: []].insert(name)
          }
        }
      }
    }
    return found
  }

  /// True for the variable, or its attribute `key`, under any filters, tests and slices.
  private func isAccess(_ id: JinjaNodeID, _ name: Int32, key: StaticString?) -> Bool {
    guard id >= 0 else { return false }
    let node = program[id]
    switch node.kind {
    case .filter, .test: return isAccess(node.a, name, key: key)
    case .item where program[node.b].kind == .slice: return isAccess(node.a, name, key: key)
    case .item:
      guard let key, isVariable(node.a, name), program[node.b].kind == .constant,
        case .string(let text) = program.constants[Int(program[node.b].a)]
      else { return false }
      return text.equals(key)
    case .attribute:
      guard let key else { return false }
      return isVariable(node.a, name) && program.names[Int(node.b)].equals(key)
    default: return key == nil && isVariable(id, name)
    }
  }

  private func isVariable(_ id: JinjaNodeID, _ name: Int32) -> Bool {
    program[id].kind == .name && program[id].a == name
  }
}
