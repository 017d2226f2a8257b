// Normalization form C.

import Base
import Testing

@testable import Tokenizer

private func normalized(_ text: String) -> String {
  var text = text
  return text.withUTF8 { bytes in
    var normalizer = Normalizer()
    var output = ByteBuffer()
    normalizer.append(UnsafeRawBufferPointer(bytes), to: &output)
    return output.readable.text
  }
}

private func scalars(_ text: String) -> [UInt32] { text.unicodeScalars.map(\.value) }

@Suite struct NormalizationTests {
  @Test(arguments: [
    ("cafe\u{301}", "caf\u{e9}"), ("e\u{301}\u{323}", "\u{1eb9}\u{301}"), ("\u{212b}", "\u{c5}"),
    ("q\u{307}\u{323}", "q\u{323}\u{307}"), ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
    ("\u{ac00}\u{11a8}", "\u{ac01}"), ("\u{958}", "\u{915}\u{93c}"), ("\u{f900}", "\u{8c48}"),
    ("\u{344}", "\u{308}\u{301}"), ("\u{9c7}\u{9be}", "\u{9cb}"), ("\u{301}", "\u{301}"), ("", ""),
    ("a\u{315}\u{300}\u{5ae}\u{300}b", "\u{e0}\u{5ae}\u{300}\u{315}b"),
    ("x\u{301}y\u{e9}z", "x\u{301}y\u{e9}z"),
  ])
  func composesAsUnicodeSays(text: String, expected: String) {
    #expect(scalars(normalized(text)) == scalars(expected))
  }

  @Test func normalizedTextStaysAsItIs() {
    for text in ReferenceCases.texts {
      let once = normalized(text)
      #expect(scalars(normalized(once)) == scalars(once))
    }
  }

  @Test func textWithoutUnstableCharactersIsRecognised() {
    for (text, isStable) in [
      ("plain ASCII", true), ("caf\u{e9} 你好", true), ("e\u{301}", false), ("\u{212b}", false),
    ] {
      var text = text
      let found = text.withUTF8 { Normalizer.isNormalized(UnsafeRawBufferPointer($0)) }
      #expect(found == isStable)
    }
  }

  @Test func aLongRunOfMarksIsOrdered() {
    let marks = (0..<300).map { $0 % 2 == 0 ? "\u{315}" : "\u{323}" }.joined()
    let sorted = String(repeating: "\u{323}", count: 150) + String(repeating: "\u{315}", count: 150)
    #expect(scalars(normalized("x" + marks)) == scalars("x" + sorted))
  }

  @Test func anythingBehindAStableCharacterNormalizesApart() {
    // What the cuts of the encoder rest on.
    for left in ReferenceCases.texts {
      for right in [" e\u{301}", "\ne\u{323}\u{301}", ".\u{301}"] {
        #expect(scalars(normalized(left + right)) == scalars(normalized(left) + normalized(right)))
      }
    }
  }
}
