// What the simulated engine says can be read back, and continued from any token on.

import Base
import Testing

@testable import Engine

struct ReadingTests {
  private func stream(_ prompt: UInt64, limit: Bool = true) -> TokenStream {
    TokenStream(seed: 1, promptHash: prompt, variation: 0, endsByItself: !limit)
  }

  private func say(_ stream: inout TokenStream, _ count: Int, into text: inout ByteBuffer) -> [UInt32] {
    (0..<count).map { _ in
      let previous = stream.last
      let token = stream.next()
      Vocabulary.append(token, after: previous, to: &text)
      return token
    }
  }

  @Test(arguments: 0..<40) func everyTextIsReadAsItsTokens(prompt: UInt64) {
    for count in [1, 2, 3, 7, 50] {
      var stream = stream(prompt)
      var text = ByteBuffer()
      let tokens = say(&stream, count, into: &text)
      #expect(SimulatedText.tokens(of: text.readable) == tokens)
    }
  }

  @Test(arguments: 0..<20) func aTextCutAnywhereGoesOnTheSame(prompt: UInt64) {
    var whole = stream(prompt, limit: false)
    var text = ByteBuffer()
    let tokens = say(&whole, 14, into: &text)
    for cut in 0..<tokens.count {
      var resumed = stream(prompt, limit: false)
      for token in tokens[..<cut] { resumed.resume(with: token) }
      var rest = ByteBuffer()
      #expect(say(&resumed, tokens.count - cut, into: &rest) == Array(tokens[cut...]))
      #expect(text.text.hasSuffix(rest.text))
      #expect(resumed.isComplete == whole.isComplete)
    }
  }

  @Test(arguments: ["hello", "the river", "The river ", "The  river", " The river", "The riVer", ".."])
  func whatItWouldNotSayIsNotRead(_ text: String) {
    let tokens = Array(text.utf8).withUnsafeBytes { SimulatedText.tokens(of: $0) }
    // Two periods are said as they are written.
    #expect((tokens == nil) == (text != ".."))
  }
}
