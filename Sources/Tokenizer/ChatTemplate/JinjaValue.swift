// The values that templates compute with: Python's, as far as a template can tell.

/// A value of a template. Lists and mappings cannot change (the sandbox of chat templates forbids it), so sharing them
/// is copying them; only a namespace has an identity.
enum JinjaValue {
  /// What reading an unknown variable or attribute gives; the text is its name.
  case undefined(JinjaText)
  case none
  case bool(Bool)
  case int(Int)
  /// A whole number beyond 64 bits, as its digits: it can be printed and compared, not reckoned with.
  case bigInteger(JinjaText)
  case double(Double)
  case string(JinjaText)
  case list(JinjaList)
  case dict(JinjaDict)
  /// `dict.keys()`, `.values()` and `.items()`.
  case view(JinjaView)
  /// What `map`, `select` and the like give: elements that can be read once.
  case generator(JinjaGenerator)
  case range(JinjaRange)
  case namespace(JinjaNamespace)
  case loop(JinjaLoop)
  case macro(JinjaMacro)
  /// A global function.
  case function(JinjaFunction)
  /// A method that was named but not called.
  case method(JinjaBoundMethod)
  case cycler(JinjaCycler)
  case joiner(JinjaJoiner)
}

/// A list or a tuple.
final class JinjaList {
  let items: [JinjaValue]
  let isTuple: Bool
  /// How many lists and mappings lie within one another here, this one included.
  let depth: Int
  /// About how much there is to walk through, with what is held twice counted twice.
  let weight: Int
  /// The element names of `groupby`'s tuples: `grouper` and `list`.
  let isGroup: Bool

  init(_ items: [JinjaValue], isTuple: Bool = false, isGroup: Bool = false) {
    self.items = items
    self.isTuple = isTuple
    self.isGroup = isGroup
    (depth, weight) = JinjaValue.measure(items)
  }
}

/// A mapping in the order its keys came in. Small ones are searched from the front, large ones by hash.
final class JinjaDict {
  /// Above this many keys an index is kept.
  private static let scannedMax = 12

  private(set) var keys: [JinjaValue] = []
  private(set) var values: [JinjaValue] = []
  private(set) var depth = 1
  private(set) var weight = 1
  private var index: [JinjaTextKey: Int] = [:]

  var count: Int { keys.count }

  /// The value of a string key.
  func value(_ key: JinjaText) -> JinjaValue? {
    position(key).map { values[$0] }
  }

  /// The value of a key as short as in the program's text.
  func value(_ key: StaticString) -> JinjaValue? { value(JinjaText(key)) }

  /// The value of any hashable key.
  func value(_ key: JinjaValue) -> JinjaValue? {
    if case .string(let text) = key { return value(text) }
    return otherPosition(key).map { values[$0] }
  }

  /// Adds a member; the value of a key that is there already is replaced where it stands, as Python does it.
  func set(_ key: JinjaValue, _ value: JinjaValue) {
    depth = max(depth, 1 + value.depth)
    weight = JinjaValue.sum(weight, JinjaValue.sum(key.weight, value.weight))
    let found: Int?
    if case .string(let text) = key { found = position(text) } else { found = otherPosition(key) }
    if let found {
      values[found] = value
      return
    }
    keys.append(key)
    values.append(value)
    if !index.isEmpty {
      if case .string(let text) = key { index[JinjaTextKey(text: text)] = keys.count - 1 }
    } else if keys.count > JinjaDict.scannedMax {
      for (position, key) in keys.enumerated() {
        if case .string(let text) = key { index[JinjaTextKey(text: text)] = position }
      }
    }
  }

  func set(_ key: StaticString, _ value: JinjaValue) { set(.string(JinjaText(key)), value) }

  func reserve(_ count: Int) {
    keys.reserveCapacity(count)
    values.reserveCapacity(count)
  }

  private func position(_ key: JinjaText) -> Int? {
    if !index.isEmpty { return index[JinjaTextKey(text: key)] }
    for position in 0..<keys.count {
      if case .string(let text) = keys[position], text.equals(key) { return position }
    }
    return nil
  }

  private func otherPosition(_ key: JinjaValue) -> Int? {
    for position in 0..<keys.count {
      if case .string = keys[position] { continue }
      if keys[position].isEqual(key) { return position }
    }
    return nil
  }
}

/// A string as a key of the index, hashed with the process's own seed.
private struct JinjaTextKey: Hashable {
  let text: JinjaText

  static func == (left: JinjaTextKey, right: JinjaTextKey) -> Bool { left.text.equals(right.text) }

  func hash(into hasher: inout Hasher) { hasher.combine(bytes: text.bytes) }
}

/// A view of a mapping.
final class JinjaView {
  enum Kind { case keys, values, items }

  let kind: Kind
  let dict: JinjaDict

  init(_ kind: Kind, _ dict: JinjaDict) {
    self.kind = kind
    self.dict = dict
  }

  /// The elements, made anew for items.
  var items: [JinjaValue] {
    switch kind {
    case .keys: return dict.keys
    case .values: return dict.values
    case .items:
      return (0..<dict.count).map { position in
        .list(JinjaList([dict.keys[position], dict.values[position]], isTuple: true))
      }
    }
  }
}

/// Elements that are handed out once.
final class JinjaGenerator {
  private var items: [JinjaValue]
  private var position = 0
  let depth: Int
  let weight: Int

  init(_ items: [JinjaValue]) {
    self.items = items
    (depth, weight) = JinjaValue.measure(items)
  }

  /// The next element; nil when all were taken.
  func next() -> JinjaValue? {
    guard position < items.count else { return nil }
    position += 1
    return items[position - 1]
  }

  /// All elements that are left, which leaves none.
  func takeAll() -> [JinjaValue] {
    let rest = position == 0 ? items : Array(items[position...])
    items = []
    position = 0
    return rest
  }
}

/// `range(start, stop, step)`.
final class JinjaRange {
  let start: Int
  let step: Int
  let count: Int

  init(start: Int, step: Int, count: Int) {
    self.start = start
    self.step = step
    self.count = count
  }

  var items: [JinjaValue] { (0..<count).map { .int(start + $0 * step) } }
}

/// `namespace()`: the one value whose attributes a template may set. The renderer empties it at its end, so that one
/// which holds itself does not outlive the rendering.
final class JinjaNamespace {
  var attributes = JinjaDict()
}

/// The `loop` of one `for`.
final class JinjaLoop {
  var items: [JinjaValue]
  var index = 0
  var changedValues: [JinjaValue]?

  init(items: [JinjaValue]) {
    self.items = items
  }
}

/// A macro, or the body of a `call` block, with the variables around it.
final class JinjaMacro {
  let index: Int
  let scope: JinjaActivation

  init(index: Int, scope: JinjaActivation) {
    self.index = index
    self.scope = scope
  }
}

/// A method and the value it was read from.
final class JinjaBoundMethod {
  let value: JinjaValue
  let method: JinjaMethod

  init(_ value: JinjaValue, _ method: JinjaMethod) {
    self.value = value
    self.method = method
  }
}

/// `cycler(...)`.
final class JinjaCycler {
  let items: [JinjaValue]
  var position = 0

  init(_ items: [JinjaValue]) {
    self.items = items
  }
}

/// `joiner(separator)`.
final class JinjaJoiner {
  let separator: JinjaText
  var isUsed = false

  init(_ separator: JinjaText) {
    self.separator = separator
  }
}

/// The variables of one run of the template, of a macro or of a `call` block.
final class JinjaActivation {
  let parent: JinjaActivation?
  var slots: [JinjaValue?]

  init(parent: JinjaActivation?, count: Int) {
    self.parent = parent
    slots = [JinjaValue?](repeating: nil, count: count)
  }
}

/// A value with its name, as a call passes it.
struct JinjaKeyword {
  let name: JinjaText
  let value: JinjaValue
}
