// What can be wrong with JSON text, and where.

/// A fault in JSON text with the byte it was found at.
package struct JSONError: Error, Sendable, Equatable {
  /// Why the text was refused.
  package enum Reason: UInt8, Sendable, Equatable {
    case endOfInput
    case valueExpected
    case keyExpected
    case colonExpected
    case commaOrEndExpected
    case invalidLiteral
    case invalidNumber
    case controlCharacter
    case invalidEscape
    case loneSurrogate
    case invalidUTF8
    case tooDeep
    case trailingBytes
    case tooManyValues
    case wrongKind
  }

  /// Why the text was refused.
  package let reason: Reason

  /// Zero-based position of the byte that broke the rule; the input's length when it ended too early.
  package let offset: Int

  package init(_ reason: Reason, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  /// The reason in words, without the position.
  package var explanation: String {
    switch reason {
    case .endOfInput: "unexpected end of input"
    case .valueExpected: "a value was expected"
    case .keyExpected: "an object key in double quotes was expected"
    case .colonExpected: "':' was expected"
    case .commaOrEndExpected: "',' or the end of the array or object was expected"
    case .invalidLiteral: "neither true, false nor null"
    case .invalidNumber: "malformed number"
    case .controlCharacter: "unescaped control character in a string"
    case .invalidEscape: "invalid escape in a string"
    case .loneSurrogate: "surrogate escape without its other half"
    case .invalidUTF8: "invalid UTF-8"
    case .tooDeep: "nested more than \(JSONScanner.depthMax) levels deep"
    case .trailingBytes: "unexpected bytes after the value"
    case .tooManyValues: "too many values"
    case .wrongKind: "a value of another kind was expected"
    }
  }
}
