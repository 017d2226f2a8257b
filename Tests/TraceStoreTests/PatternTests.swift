// Regular expressions: what they match, what is refused, and that no pattern takes long.

import Base
import Testing

@testable import TraceStore

@Suite struct PatternTests {
  private func matches(_ pattern: String, _ text: String) -> Bool? {
    guard let pattern = try? Pattern(pattern) else { return nil }
    return Array(text.utf8).withUnsafeBytes { pattern.matches($0) }
  }

  @Test(arguments: [
    ("abc", ["abc"], ["ab", "abcd", "xabc", ""]),
    ("test-.*", ["test-", "test-trace-001"], ["a test-1", "tes"]),
    (".*error.*", ["error", "an error here"], ["err", ""]),
    ("a|b|cd", ["a", "b", "cd"], ["ab", "c", ""]),
    ("(a|b)+c?", ["a", "abab", "bc"], ["c", "acc", ""]),
    ("x(ab)*y", ["xy", "xababy"], ["xay", "xab"]),
    ("[a-c]{2,3}", ["ab", "abc"], ["a", "abcd", "ad"]),
    ("a{2}", ["aa"], ["a", "aaa"]),
    ("a{2,}", ["aa", "aaaa"], ["a"]),
    ("[^0-9]+", ["abc"], ["a1", ""]),
    ("[]x-]+", ["]", "x-"], ["a"]),
    (#"\d+\.\d"#, ["10.5"], ["105", "10x5"]),
    (#"\w+\s\S"#, ["ab c", "_ -"], ["ab  c"]),
    ("(?i)Get|pOsT", ["GET", "post"], ["gets"]),
    ("^a.c$", ["abc", "a\nc"], ["ac"]),
    ("(?:ab|)c", ["abc", "c"], ["ac"]),
    ("(a*)*b", ["b", "aab"], ["a"]),
    ("", [""], ["a"]),
    ("é+", ["é", "éé"], ["e"]),
    ("a.c", ["aéc", "a😀c"], ["ac"]),
    ("a+?b*?", ["a", "aab"], ["b"]),
  ])
  func patternsMatchWholeTexts(pattern: String, yes: [String], no: [String]) {
    for text in yes { #expect(matches(pattern, text) == true, "\(pattern) on \(text)") }
    for text in no { #expect(matches(pattern, text) == false, "\(pattern) on \(text)") }
  }

  @Test(arguments: [
    "(", ")", "a)", "[", "[a", "*", "a|*", "a{", "a{2", "a{3,2}", "a{999}", "\\", "(?=a)", "a^b", "a$b",
    "[z-a]",
    "[[:alpha:]]", #"\1"#, #"\b"#, "((a{200}){200}){200}", "a*****",
  ])
  func whatIsNotKnownIsRefused(pattern: String) {
    #expect(throws: PatternError.self) { try Pattern(pattern) }
  }

  /// A group without states can be repeated as often as one with them.
  @Test(arguments: [
    "(){200}{200}{200}{200}", "((){200}{200}{200}{200}){200}{200}{200}{200}", "(a{0}){200}{200}{200}{200}",
  ])
  func repetitionsOfNothingAreBounded(pattern: String) {
    #expect(throws: PatternError(message: "the expression is too large")) { try Pattern(pattern) }
  }

  @Test func aLongTextIsMatchedAsIfItEndedAtTheBound() {
    let long = String(repeating: "a", count: Pattern.textMax)
    #expect(matches("a*", long + "b") == true)
    #expect(matches("a*b", long + "b") == false)
    #expect(matches("a*b", long.dropLast() + "b") == true)
  }

  @Test func nestingIsBounded() {
    let nested = String(repeating: "(", count: 200) + "a" + String(repeating: ")", count: 200)
    #expect(throws: PatternError(message: "groups are nested too deeply")) { try Pattern(nested) }
  }

  /// Backtracking would need 2^40 steps here; the machine needs 40 times its states.
  @Test func patternsThatBlowUpByBacktrackingDoNot() {
    let text = String(repeating: "a", count: 40)
    #expect(matches("(a|a)*(a|a)*(aa|a)*b", text) == false)
    #expect(matches(String(repeating: "a?", count: 40) + text, text) == true)
  }
}
