// Which variable a name means: jinja2's scoping rules, worked out before anything is rendered.

/// A variable: where its activation stands (how many functions are around it) and its place there.
struct JinjaVariable: Hashable {
  let function: Int32
  let slot: Int32
}

/// The template itself, a macro or a `call` body: what has an activation of its own.
final class JinjaFunctionScope {
  let level: Int32
  private(set) var slotCount: Int32 = 0

  init(level: Int32) {
    self.level = level
  }

  func newSlot() -> Int32 {
    slotCount += 1
    return slotCount - 1
  }
}

/// The names of one frame: what it stores, and where each name it uses comes from.
///
/// A `for` body, a `set` block and the like are frames of their own within their function; an `if` is none. A name that
/// a frame stores is a new variable there, which starts as a copy of the one outside: so a `set` in a loop is
/// forgotten at the end of each turn.
final class JinjaSymbols {
  enum Load {
    case parameter
    case context
    case alias(JinjaVariable)
    case undefined
  }

  let parent: JinjaSymbols?
  let function: JinjaFunctionScope
  /// Variables of this frame by name, kept when branches are looked at apart.
  private let frame: Frame
  private var variables: [Int32: JinjaVariable] = [:]
  private(set) var loads: [JinjaVariable: Load] = [:]
  private var stores: Set<Int32> = []

  private final class Frame {
    var variables: [Int32: JinjaVariable] = [:]
  }

  init(parent: JinjaSymbols?, function: JinjaFunctionScope) {
    self.parent = parent
    self.function = function
    frame = Frame()
  }

  private init(branchOf other: JinjaSymbols) {
    parent = other.parent
    function = other.function
    frame = other.frame
    variables = other.variables
    loads = other.loads
    stores = other.stores
  }

  /// The variable that `name` means here; nil when no frame knows it yet.
  func find(_ name: Int32) -> JinjaVariable? {
    variables[name] ?? parent?.find(name)
  }

  /// `name` is read.
  func load(_ name: Int32) {
    if find(name) == nil { define(name, .context) }
  }

  /// `name` is assigned.
  func store(_ name: Int32) {
    stores.insert(name)
    guard variables[name] == nil else { return }
    if let outer = parent?.find(name) { define(name, .alias(outer)) } else { define(name, .undefined) }
  }

  /// `name` is given its value from outside when the frame is entered. Returns its place.
  @discardableResult
  func declare(_ name: Int32) -> Int32 {
    stores.insert(name)
    return define(name, .parameter).slot
  }

  /// These symbols as they are, to look at one branch of an `if`.
  func branch() -> JinjaSymbols { JinjaSymbols(branchOf: self) }

  /// Takes over what the branches of an `if` did. A name that only branches store may keep the value from outside.
  func merge(_ branches: [JinjaSymbols]) {
    var stored: Set<Int32> = []
    for branch in branches { stored.formUnion(branch.stores) }
    stored.subtract(stores)
    for branch in branches {
      variables.merge(branch.variables) { $1 }
      loads.merge(branch.loads) { $1 }
      stores.formUnion(branch.stores)
    }
    for name in stored {
      guard let variable = variables[name] else { continue }
      if let outer = parent?.find(name) {
        loads[variable] = .alias(outer)
      } else {
        loads[variable] = .context
      }
    }
  }

  @discardableResult
  private func define(_ name: Int32, _ load: Load) -> JinjaVariable {
    let variable: JinjaVariable
    if let known = frame.variables[name] {
      variable = known
    } else {
      variable = JinjaVariable(function: function.level, slot: function.newSlot())
      frame.variables[name] = variable
    }
    variables[name] = variable
    loads[variable] = load
    return variable
  }

  /// The loads of this frame with the names they are for, in the order of their places.
  var frameLoads: [(name: Int32, variable: JinjaVariable, load: Load)] {
    variables.compactMap { name, variable in
      loads[variable].map { (name, variable, $0) }
    }.sorted { $0.variable.slot < $1.variable.slot }
  }
}
