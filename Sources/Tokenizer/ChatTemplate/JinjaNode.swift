// The syntax tree of a template: small records in one table that refer to each other by number.

/// Position of a node in the table of a program; -1 for none.
typealias JinjaNodeID = Int32

/// One statement or expression. What `a`, `b` and `c` mean is said at each kind; "list" is a range of the program's
/// `lists`: its start, then its count. Being plain numbers, nodes are read without counting references.
struct JinjaNode {
  enum Kind: UInt8 {
    // Statements.
    /// Text `a`.
    case data
    /// Writes expression `a`.
    case print
    /// Statements: list `a`, `b`.
    case block
    /// Condition `a`, block `b`, `else` `c` (a block, another `branch` or none).
    case branch
    /// Loop `a` of the program's loops.
    case loop
    /// Target `a` becomes expression `b`.
    case assign
    /// Target `a` becomes what scope `c` writes, after filter `b` or none.
    case assignBlock
    /// Target `a` becomes macro `b`.
    case macro
    /// Writes what call `a` gives, whose caller is macro `b`.
    case callBlock
    /// Writes what scope `c` writes, after filter `b`.
    case filterBlock
    /// Targets and values in pairs (list `a`, `b`) for scope `c`.
    case with
    /// Runs scope `c`: the `generation` tag.
    case scope
    case breakLoop, continueLoop

    // Targets.
    /// Attribute `b` (a name) of the namespace in name node `a`.
    case namespaceAttribute

    // Expressions.
    /// Value `a` of the program's constants.
    case constant
    /// Name `a`; after resolution the variable `c` of the activation `b` steps out.
    case name
    /// Attribute `b` (a name) of `a`.
    case attribute
    /// Item `b` of `a`.
    case item
    /// From `a` to `b` by `c`, each may be none; only as an item's key.
    case slice
    /// Calls `a` with arguments `b`.
    case call
    /// Filter `c` of `a` with arguments `b`; no `a` stands for what the block wrote.
    case filter
    /// Test `c` of `a` with arguments `b`.
    case test
    case not, negative, positive
    case add, subtract, multiply, divide, floorDivide, modulo, power
    /// Strings joined by `~`: list `a`, `b`.
    case concatenate
    /// Left side `a`, then pairs of operator (`JinjaComparison`) and right side: list `b`, `c`.
    case compare
    case and, or
    /// `b` if `a` else `c`; none gives an undefined value.
    case conditional
    /// Elements: list `a`, `b`.
    case tuple, list
    /// Keys and values in turn: list `a`, `b`.
    case dict
  }

  let kind: Kind
  let line: Int32
  var a: Int32 = -1
  var b: Int32 = -1
  var c: Int32 = -1
}

/// The operators of comparisons.
enum JinjaComparison: Int32 {
  case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, `in`, notIn
}

/// The arguments of a call, filter or test; ranges of the program's `lists`. Keywords are pairs of name and value.
struct JinjaArguments {
  var start: Int32 = 0
  var count: Int32 = 0
  var keywordStart: Int32 = 0
  /// Number of pairs.
  var keywordCount: Int32 = 0
  /// `*list` and `**mapping`.
  var star: JinjaNodeID = -1
  var doubleStar: JinjaNodeID = -1

  var isPlain: Bool { keywordCount == 0 && star < 0 && doubleStar < 0 }
}

/// A `for` loop.
struct JinjaLoopInfo {
  let target: JinjaNodeID
  let iterable: JinjaNodeID
  let test: JinjaNodeID
  let body: JinjaNodeID
  let otherwise: JinjaNodeID
  var bodyFrame: Int32 = -1
  var testFrame: Int32 = -1
  var otherwiseFrame: Int32 = -1
  /// Variable of `loop` where the body names it.
  var loopSlot: Int32 = -1
  /// Nodes of the body lie in this range of the table.
  let bodyNodes: Range<Int32>
}

/// A macro or the body of a `call` block.
struct JinjaMacroInfo {
  /// Name of the macro; -1 for a caller.
  let name: Int32
  /// Name nodes of the arguments, and the default values of the last of them: lists.
  let argumentStart: Int32
  let argumentCount: Int32
  let defaultStart: Int32
  let defaultCount: Int32
  let body: JinjaNodeID
  let bodyNodes: Range<Int32>
  var frame: Int32 = -1
  var slotCount: Int32 = 0
  /// Variables of `caller`, `kwargs` and `varargs` where the body names them.
  var callerSlot: Int32 = -1
  var keywordsSlot: Int32 = -1
  var restSlot: Int32 = -1
}

/// Statements with variables of their own.
struct JinjaScopeInfo {
  let body: JinjaNodeID
  var frame: Int32 = -1
}

/// What happens to a variable when its frame is entered.
struct JinjaLoad {
  enum Source: UInt8 { case context, alias, undefined }

  let slot: Int32
  let source: Source
  /// The name in the context, or the variable that is copied.
  var from: Int32 = -1
  /// How many activations out the copied variable lies.
  var hops: Int32 = 0
}
