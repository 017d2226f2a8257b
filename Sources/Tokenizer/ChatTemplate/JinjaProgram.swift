// A compiled template: its tables, and the look-up of names in them.

internal import Base

/// A template after parsing and resolving; never changed after that.
///
/// Sendable although its strings are pointers and its constants may hold objects: all of it lies in the program's own
/// arena, is written before the program is shared, and is only read afterwards.
final class JinjaProgram: @unchecked Sendable {
  let arena: JinjaArena
  /// The template's text with newlines as "\n".
  let source: JinjaText

  var nodes: [JinjaNode] = []
  /// How deep the tree below each node is.
  private var depths: [Int32] = []
  var lists: [Int32] = []
  var constants: [JinjaValue] = []
  var arguments: [JinjaArguments] = []
  var loops: [JinjaLoopInfo] = []
  var macros: [JinjaMacroInfo] = []
  var scopes: [JinjaScopeInfo] = []
  /// Ranges of `loads`: start and count.
  var frames: [(start: Int32, count: Int32)] = []
  var loads: [JinjaLoad] = []
  var root: JinjaNodeID = -1
  var rootFrame: Int32 = -1
  var rootSlotCount: Int32 = 0

  /// Names in the order they were met, and which method of strings, lists or mappings each could be.
  private(set) var names: [JinjaText] = []
  private(set) var methods: [JinjaMethod?] = []
  private var nameIDs: [String: Int32] = [:]
  /// Values of names that every template knows.
  var globals: [JinjaValue?] = []
  /// True when a filter is used that makes a string "markup", which changes what `+` does.
  var usesMarkup = false

  private let depthMax: Int

  init(source: JinjaText, arena: JinjaArena, limits: ChatTemplateLimits) {
    self.source = source
    self.arena = arena
    // The tree is walked by recursion; one level of it may be several of evaluation.
    depthMax = limits.evaluationDepthMax / 2
  }

  /// The number of a name; the same text has the same number.
  func name(_ text: JinjaText) -> Int32 {
    let key = text.string
    if let known = nameIDs[key] { return known }
    let number = Int32(names.count)
    nameIDs[key] = number
    names.append(text)
    methods.append(JinjaMethod(rawValue: key))
    globals.append(JinjaFunction(rawValue: key).map { .function($0) })
    return number
  }

  /// The number of a name that the template has; nil when it has none such.
  func known(_ text: JinjaText) -> Int32? { nameIDs[text.string] }

  /// Adds a node above `children`.
  func add(_ node: JinjaNode, _ children: [JinjaNodeID] = []) throws(ChatTemplateError) -> JinjaNodeID {
    var depth: Int32 = 1
    for child in children where child >= 0 { depth = max(depth, depths[Int(child)] + 1) }
    guard depth <= depthMax else {
      throw ChatTemplateError(.nestedTooDeep, "statements or expressions nest too deep", line: Int(node.line))
    }
    nodes.append(node)
    depths.append(depth)
    return JinjaNodeID(nodes.count - 1)
  }

  /// Adds a list and returns where it starts.
  func add(list: [Int32]) -> Int32 {
    lists.append(contentsOf: list)
    return Int32(lists.count - list.count)
  }

  func add(constant: JinjaValue) -> Int32 {
    constants.append(constant)
    return Int32(constants.count - 1)
  }

  subscript(_ id: JinjaNodeID) -> JinjaNode { nodes[Int(id)] }

  /// Element `index` of the list that starts at `start`.
  func element(_ start: Int32, _ index: Int32) -> Int32 { lists[Int(start + index)] }

  func list(_ start: Int32, _ count: Int32) -> ArraySlice<Int32> {
    lists[Int(start)..<Int(start + count)]
  }

  /// Calls `visit` with each expression right below expression `id`.
  func forEachChild(_ id: JinjaNodeID, _ visit: (JinjaNodeID) -> Void) {
    let node = self[id]
    switch node.kind {
    case .constant, .name: break
    case .attribute, .not, .negative, .positive: visit(node.a)
    case .namespaceAttribute: visit(node.a)
    case .item, .add, .subtract, .multiply, .divide, .floorDivide, .modulo, .power, .and, .or:
      visit(node.a)
      visit(node.b)
    case .slice, .conditional:
      for child in [node.a, node.b, node.c] where child >= 0 { visit(child) }
    case .call, .filter, .test:
      if node.a >= 0 { visit(node.a) }
      forEachArgument(arguments[Int(node.b)], visit)
    case .concatenate, .tuple, .list, .dict:
      for child in list(node.a, node.b) { visit(child) }
    case .compare:
      visit(node.a)
      for pair in 0..<(node.c / 2) { visit(element(node.b, pair * 2 + 1)) }
    default: break
    }
  }

  private func forEachArgument(_ arguments: JinjaArguments, _ visit: (JinjaNodeID) -> Void) {
    for child in list(arguments.start, arguments.count) { visit(child) }
    for pair in 0..<arguments.keywordCount { visit(element(arguments.keywordStart, pair * 2 + 1)) }
    if arguments.star >= 0 { visit(arguments.star) }
    if arguments.doubleStar >= 0 { visit(arguments.doubleStar) }
  }
}

extension JinjaProgram {
  /// Compiles `source`.
  static func compile(
    _ source: UnsafeRawBufferPointer, limits: ChatTemplateLimits
  ) throws(ChatTemplateError) -> JinjaProgram {
    guard source.count <= limits.sourceBytesMax else {
      throw ChatTemplateError(.sourceTooLarge, "a template of more than \(limits.sourceBytesMax) bytes")
    }
    guard String(validating: source, as: UTF8.self) != nil else {
      throw ChatTemplateError(.syntax, "a template that is no UTF-8")
    }
    let arena = JinjaArena(bytesMax: .max / 2)
    let text = try JinjaLexer.normalized(source, arena: arena)
    let program = JinjaProgram(source: text, arena: arena, limits: limits)
    let tokens = try JinjaLexer.tokens(of: text, arena: arena)
    var parser = JinjaParser(program, tokens, depthMax: limits.syntaxDepthMax)
    program.root = try parser.template()
    JinjaResolver.resolve(program)
    return program
  }
}
