// libpcre2, loaded when a model's pattern has no scanner here, and absent otherwise.

internal import Glibc

/// The functions of libpcre2-8 that are used, found at run time: the library is no dependency of the build.
///
/// `@unchecked`: function addresses of a library that is never unloaded.
private struct PatternLibrary: @unchecked Sendable {
  typealias Compile =
    @convention(c) (
      UnsafePointer<UInt8>?, Int, UInt32, UnsafeMutablePointer<Int32>?, UnsafeMutablePointer<Int>?,
      OpaquePointer?
    ) -> OpaquePointer?
  typealias MakeMatch = @convention(c) (OpaquePointer?, OpaquePointer?) -> OpaquePointer?
  typealias Match =
    @convention(c) (
      OpaquePointer?, UnsafePointer<UInt8>?, Int, Int, UInt32, OpaquePointer?, OpaquePointer?
    ) -> Int32
  typealias Vector = @convention(c) (OpaquePointer?) -> UnsafeMutablePointer<Int>?
  typealias Free = @convention(c) (OpaquePointer?) -> Void

  let compile: Compile
  let makeMatch: MakeMatch
  let match: Match
  let vector: Vector
  let freeMatch: Free
  let freeCode: Free

  /// Nil where the library is not installed.
  static let shared = PatternLibrary()

  private init?() {
    guard let library = dlopen("libpcre2-8.so.0", RTLD_NOW | RTLD_LOCAL),
      let compile = dlsym(library, "pcre2_compile_8"),
      let makeMatch = dlsym(library, "pcre2_match_data_create_from_pattern_8"),
      let match = dlsym(library, "pcre2_match_8"),
      let vector = dlsym(library, "pcre2_get_ovector_pointer_8"),
      let freeMatch = dlsym(library, "pcre2_match_data_free_8"),
      let freeCode = dlsym(library, "pcre2_code_free_8")
    else { return nil }
    self.compile = unsafeBitCast(compile, to: Compile.self)
    self.makeMatch = unsafeBitCast(makeMatch, to: MakeMatch.self)
    self.match = unsafeBitCast(match, to: Match.self)
    self.vector = unsafeBitCast(vector, to: Vector.self)
    self.freeMatch = unsafeBitCast(freeMatch, to: Free.self)
    self.freeCode = unsafeBitCast(freeCode, to: Free.self)
  }
}

/// A regular expression compiled by libpcre2.
///
/// Its classes follow the library's Unicode version, which may lie a few years off the reference implementation's: a
/// character assigned in between can be split otherwise. The scanners have no such difference.
///
/// `@unchecked`: compiled code is read-only; each match makes its own match data.
final class CompiledPattern: @unchecked Sendable {
  private let library: PatternLibrary
  private let code: OpaquePointer

  // From pcre2.h: UTF, UCP, NEVER_BACKSLASH_C; and for a match that the text is known to be valid.
  private static let compileOptions: UInt32 = 0x0008_0000 | 0x0002_0000 | 0x0010_0000
  private static let matchOptions: UInt32 = 0x4000_0000
  private static let noMatch: Int32 = -1

  init(_ pattern: String) throws(TokenizerError) {
    guard let library = PatternLibrary.shared else {
      throw .unsupportedPattern(pattern, reason: "it has no scanner here, and libpcre2 is not installed")
    }
    let spelled = try PatternTranslation.translated(pattern)
    var errorCode: Int32 = 0
    var errorPlace = 0
    var bytes = Array(spelled.utf8)
    bytes.append(0)
    let code = library.compile(
      bytes, bytes.count - 1, CompiledPattern.compileOptions, &errorCode, &errorPlace, nil)
    guard let code else {
      throw .unsupportedPattern(pattern, reason: "libpcre2 refuses it: code \(errorCode) at \(errorPlace)")
    }
    self.library = library
    self.code = code
  }

  deinit { library.freeCode(code) }

  /// The first match in `text` (valid UTF-8) at or behind `start` that is not empty; nil when there is none.
  func firstMatch(in text: UnsafeRawBufferPointer, from start: Int) throws(TokenizerError) -> Range<Int>? {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return nil }
    guard let match = library.makeMatch(code, nil) else { throw .patternFailed(code: -48) }
    defer { library.freeMatch(match) }
    var from = start
    while from < text.count {
      let result = library.match(code, base, text.count, from, CompiledPattern.matchOptions, match, nil)
      if result == CompiledPattern.noMatch { return nil }
      guard result > 0, let vector = library.vector(match) else { throw .patternFailed(code: Int(result)) }
      if vector[1] > vector[0] { return vector[0]..<vector[1] }
      from = vector[0] + TextCharacter(at: base + vector[0]).length
    }
    return nil
  }
}

/// Spells a pattern of the reference implementation's engine (Oniguruma, Ruby's syntax) so that libpcre2 reads the same
/// in it. What the two understand differently is refused.
enum PatternTranslation {
  private static let space =
    #"\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"#
  private static let word = #"\p{L}\p{M}\p{N}\p{Pc}"#
  private static let digit = #"\p{Nd}"#

  static func translated(_ pattern: String) throws(TokenizerError) -> String {
    var result = ""
    var isEscaped = false
    var isInClass = false
    var previous: Character = " "
    for character in pattern {
      defer { previous = isEscaped ? " " : character }
      if isEscaped {
        result += try escape(character, inClass: isInClass, of: pattern)
        isEscaped = false
        continue
      }
      switch character {
      case "\\":
        isEscaped = true
      case "[":
        if isInClass { throw .unsupportedPattern(pattern, reason: "classes inside classes") }
        isInClass = true
        result.append(character)
      case "]":
        isInClass = false
        result.append(character)
      case "&" where isInClass && previous == "&":
        throw .unsupportedPattern(pattern, reason: "intersections of classes")
      case "^" where !isInClass, "$" where !isInClass:
        throw .unsupportedPattern(pattern, reason: "anchors")
      default:
        result.append(character)
      }
    }
    return result
  }

  private static func escape(
    _ letter: Character, inClass: Bool, of pattern: String
  ) throws(TokenizerError) -> String {
    switch letter {
    case "s": return inClass ? space : "[\(space)]"
    case "w": return inClass ? word : "[\(word)]"
    case "d": return inClass ? digit : "[\(digit)]"
    case "S" where !inClass: return "[^\(space)]"
    case "W" where !inClass: return "[^\(word)]"
    case "D" where !inClass: return "[^\(digit)]"
    case "p", "P", "r", "n", "t", "x": return "\\\(letter)"
    default:
      if letter.isLetter || letter.isNumber {
        throw .unsupportedPattern(pattern, reason: "the escape \\\(letter)")
      }
      return "\\\(letter)"
    }
  }
}
