// The tokens of the template language.

/// One token with its text and the line it starts on.
struct JinjaToken {
  enum Kind: UInt8 {
    case data, variableBegin, variableEnd, blockBegin, blockEnd, endOfSource
    case name, string, integer, float
    case add, subtract, multiply, divide, floorDivide, modulo, power, tilde
    case equal, notEqual, greater, greaterOrEqual, less, lessOrEqual
    case assign, dot, colon, pipe, comma, semicolon
    case leftBracket, rightBracket, leftParenthesis, rightParenthesis, leftBrace, rightBrace
  }

  let kind: Kind
  let line: Int
  /// The name, the decoded string, the data, or the operator as it was written.
  var text: JinjaText = .empty
  var integer = 0
  var double = 0.0

  /// True for the word `word`.
  func isName(_ word: StaticString) -> Bool {
    kind == .name && text.equals(word)
  }
}
