// Python's ideas about upper and lower case, with the full mappings of Unicode.

internal import Base

extension PythonText {
  /// Appends `text` as `upper()`, `lower()`, `title()`, `capitalize()`, `swapcase()` or `casefold()` gives it.
  static func append(_ text: JinjaText, in method: JinjaMethod, to out: inout ByteBuffer) {
    var offset = 0
    var isInWord = false
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      let byte = text.base[offset]
      let isUpper: Bool
      switch method {
      case .upper: isUpper = true
      case .capitalize: isUpper = offset == 0
      case .title: isUpper = !isInWord
      case .swapcase:
        isUpper = byte < 0x80 ? byte | 0x20 == byte : !text.scalar(offset, end).properties.isUppercase
      default: isUpper = false
      }
      if byte < 0x80 {
        let isLetter = byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
        out.append(!isLetter ? byte : isUpper ? byte & ~0x20 : byte | 0x20)
        isInWord = isLetter
      } else {
        let scalar = text.scalar(offset, end)
        append(scalar, isUpper: isUpper, method, text, offset, end, to: &out)
        isInWord = scalar.properties.isCased
      }
      offset = end
    }
  }

  private static func append(
    _ scalar: Unicode.Scalar, isUpper: Bool, _ method: JinjaMethod, _ text: JinjaText, _ start: Int,
    _ end: Int,
    to out: inout ByteBuffer
  ) {
    let properties = scalar.properties
    if isUpper {
      let isTitle = method == .title || method == .capitalize
      out.append(isTitle ? properties.titlecaseMapping : properties.uppercaseMapping)
    } else if scalar == "\u{3a3}", method != .casefold {
      out.append(isFinalSigma(text, start, end) ? "\u{3c2}" as StaticString : "\u{3c3}")
    } else if method == .casefold {
      // Folding is lower case but for the letters whose upper case folds further, as sharp s.
      out.append(folded(scalar))
    } else {
      out.append(properties.lowercaseMapping)
    }
  }

  private static func folded(_ scalar: Unicode.Scalar) -> String {
    let upper = scalar.properties.uppercaseMapping
    if upper.unicodeScalars.count > 1 {
      return upper.unicodeScalars.map { $0.properties.lowercaseMapping }.joined()
    }
    return scalar == "\u{3c2}" ? "\u{3c3}" : scalar.properties.lowercaseMapping
  }

  /// True where a capital sigma is the last letter of a word (Unicode's Final_Sigma).
  private static func isFinalSigma(_ text: JinjaText, _ start: Int, _ end: Int) -> Bool {
    var before = start
    var isAfterLetter = false
    while before > 0 {
      let previous = text.start(ofCharacterBefore: before)
      let properties = text.scalar(previous, before).properties
      before = previous
      if properties.isCaseIgnorable { continue }
      isAfterLetter = properties.isCased
      break
    }
    guard isAfterLetter else { return false }
    var after = end
    while after < text.count {
      let next = text.end(ofCharacterAt: after)
      let properties = text.scalar(after, next).properties
      after = next
      if properties.isCaseIgnorable { continue }
      return !properties.isCased
    }
    return true
  }

  /// `isdigit()`, `isupper()` and their kin.
  static func matches(_ text: JinjaText, _ method: JinjaMethod) -> Bool {
    if method == .isupper || method == .islower { return hasCase(text, isUpper: method == .isupper) }
    var offset = 0
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      let scalar = text.scalar(offset, end)
      let matches: Bool
      switch method {
      case .isspace: matches = isSpace(scalar.value)
      case .isalpha: matches = isLetter(scalar)
      case .isdecimal: matches = scalar.properties.numericType == .decimal
      case .isdigit:
        matches = scalar.properties.numericType == .decimal || scalar.properties.numericType == .digit
      case .isnumeric: matches = scalar.properties.numericType != nil
      default: matches = isLetter(scalar) || scalar.properties.numericType != nil
      }
      if !matches { return false }
      offset = end
    }
    return !text.isEmpty
  }

  /// True when a cased character is there and all of them are of one case.
  static func hasCase(_ text: JinjaText, isUpper: Bool) -> Bool {
    var found = false
    var offset = 0
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      let properties = text.scalar(offset, end).properties
      if properties.generalCategory == .titlecaseLetter
        || (isUpper ? properties.isLowercase : properties.isUppercase)
      {
        return false
      }
      found = found || (isUpper ? properties.isUppercase : properties.isLowercase)
      offset = end
    }
    return found
  }

  private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }
}
