// Files that are refused, and why; files that are read.

import Testing

@testable import Tokenizer

@Suite struct LoadingTests {
  private func error(_ text: String) -> TokenizerError? {
    do throws(TokenizerError) {
      _ = try SmallModel.load(text)
      return nil
    } catch {
      return error
    }
  }

  @Test func theTinyModelLoads() throws {
    let tokenizer = try SmallModel.load(SmallModel.tiny())
    #expect(try TextEncoder(tokenizer).encode("abcab") == [4, 3])
    #expect(tokenizer.idsEnd == 5)
    #expect(tokenizer.id(of: "abc") == 4)
    #expect(tokenizer.id(of: "x") == nil)
  }

  @Test func mergesInOneStringAreRead() throws {
    let tokenizer = try SmallModel.load(SmallModel.tiny(merges: #"["a b","ab c"]"#))
    #expect(try TextEncoder(tokenizer).encode("abc") == [4])
  }

  @Test(arguments: [
    ("normalizer", SmallModel.tiny(normalizer: #"{"type":"Lowercase"}"#), "Lowercase"),
    (
      "normalizer", SmallModel.tiny(normalizer: #"{"type":"Sequence","normalizers":[{"type":"NFKC"}]}"#),
      "NFKC"
    ),
    ("pre_tokenizer", SmallModel.tiny(pre: #"{"type":"Whitespace"}"#), "Whitespace"),
    ("pre_tokenizer", SmallModel.tiny(pre: "null"), "none"),
    (
      "pre_tokenizer.behavior",
      SmallModel.tiny(
        pre:
          #"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a"},"behavior":"MergedWithNext"}]}"#
      ),
      "MergedWithNext"
    ),
    ("post_processor", SmallModel.tiny(post: #"{"type":"BertProcessing"}"#), "BertProcessing"),
    ("decoder", SmallModel.tiny(decoder: #"{"type":"WordPiece"}"#), "WordPiece"),
    ("model.type", SmallModel.tiny().replacing("\"BPE\"", with: "\"Unigram\""), "Unigram"),
    ("model.dropout", SmallModel.tiny(model: #","dropout":0.1"#), "0.1"),
    ("model.end_of_word_suffix", SmallModel.tiny(model: #","end_of_word_suffix":"</w>""#), "</w>"),
    ("model.byte_fallback", SmallModel.tiny(model: #","byte_fallback":true"#), "with ByteLevel"),
  ])
  func unsupportedPartsAreNamed(part: String, text: String, value: String) {
    #expect(error(text) == .unsupported(part: part, value: value))
  }

  @Test(arguments: [
    SmallModel.tiny(vocabulary: #"{"a":0,"b":0}"#, merges: "[]"),
    SmallModel.tiny(merges: #"[["a","x"]]"#),
    SmallModel.tiny(merges: #"[["a"]]"#),
    SmallModel.tiny(merges: #"["ab"]"#),
    SmallModel.tiny(merges: #"[["a","c"]]"#),
    SmallModel.tiny(model: #","unk_token":"?""#),
    "{}", #"{"model":{"type":"BPE"}}"#, #"{"model":{"type":"BPE","vocab":{}}}"#,
  ])
  func malformedFilesAreRefused(text: String) {
    guard case .invalidFile = error(text) else {
      Issue.record("\(String(describing: error(text))) for \(text)")
      return
    }
  }

  @Test(arguments: [
    "", "[", SmallModel.tiny(vocabulary: #"{"a":-1}"#), SmallModel.tiny(vocabulary: #"{"a":2097152}"#),
    SmallModel.tiny(vocabulary: #"{"a":"b"}"#), SmallModel.tiny(vocabulary: "[]"),
    SmallModel.tiny(merges: "{}"),
    SmallModel.tiny() + "x",
  ])
  func textThatIsNoSuchFileIsRefused(text: String) {
    guard case .invalidJSON = error(text) else {
      Issue.record("\(String(describing: error(text))) for \(text)")
      return
    }
  }

  @Test func everyCutOfAFileIsRefused() {
    let text = SmallModel.tiny(added: #"[{"id":5,"content":"<x>","special":true}]"#)
    for length in 0..<text.utf8.count {
      #expect(error(String(text.prefix(length))) != nil)
    }
  }

  @Test func addedTokensKeepOrGetTheIDsOfTheReference() throws {
    let flags = #""single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true"#
    let good = SmallModel.tiny(
      added: "[{\"id\":4,\"content\":\"abc\",\(flags)},{\"id\":5,\"content\":\"<x>\",\(flags)}]")
    let tokenizer = try SmallModel.load(good)
    #expect(tokenizer.id(of: "<x>") == 5)
    #expect(try TextEncoder(tokenizer).encode("ab<x>cabc") == [3, 5, 2, 4])
    let moved = SmallModel.tiny(added: "[{\"id\":9,\"content\":\"<x>\",\(flags)}]")
    #expect(error(moved) == .unsupported(part: "added_tokens", value: "'<x>' with id 9 where 5 is next"))
  }

  @Test func specialTokensStandAroundTheText() throws {
    let post = #"""
      {"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[
      {"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
      {"SpecialToken":{"id":"</s>","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[7]},
      "</s>":{"id":"</s>","ids":[8,9]}}}]}
      """#
    let tokenizer = try SmallModel.load(SmallModel.tiny(post: post))
    let encoder = TextEncoder(tokenizer)
    #expect(try encoder.encode("ab", addSpecialTokens: true) == [7, 3, 8, 9])
    #expect(try encoder.encode("ab") == [3])
    #expect(try encoder.encode("", addSpecialTokens: true) == [7, 8, 9])
  }

  @Test func patternsThatMeanSomethingElseToTheLibraryAreRefused() {
    for pattern in [#"[\\w&&[^a]]+"#, #"\\h+"#, "^a", "a$", #"\\bword"#, "(unclosed"] {
      let pre =
        #"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\#(pattern)"},"behavior":"Isolated"},{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}]}"#
      guard case .unsupportedPattern = error(SmallModel.tiny(pre: pre)) else {
        Issue.record("\(pattern): \(String(describing: error(SmallModel.tiny(pre: pre))))")
        continue
      }
    }
  }

  @Test func invalidUTF8AndOverlongPiecesAreRefusedAndLeaveTheListAlone() throws {
    let encoder = TextEncoder(try SmallModel.load(SmallModel.tiny()))
    var ids = TokenIDs()
    ids.append(99)
    let bad: [UInt8] = [0x61, 0xff, 0x62]
    let long = [UInt8](repeating: 0x61, count: TokenizerLimits.pieceBytesMax + 1)
    for (bytes, expected) in [
      (bad, TokenizerError.invalidUTF8(offset: 1)), (long, .pieceTooLong(bytes: long.count)),
    ] {
      let block = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
      defer { block.deallocate() }
      block.copyBytes(from: bytes)
      #expect(throws: expected) { try encoder.encode(UnsafeRawBufferPointer(block), into: &ids) }
      #expect(ids.array == [99])
    }
  }

  @Test func errorsExplainThemselves() {
    #expect(TokenizerError.unsupported(part: "normalizer", value: "NFKC").explanation.contains("NFKC"))
    #expect(TokenizerError.tooLarge(part: "x", limit: 7).explanation.contains("7"))
    #expect(TokenizerError.pieceTooLong(bytes: 12).explanation.contains("12"))
    #expect(TokenizerError.patternFailed(code: -47).explanation.contains("-47"))
    #expect(TokenizerError.invalidUTF8(offset: 3).explanation.contains("3"))
    #expect(TokenizerError.invalidFile(part: "model").explanation.contains("model"))
  }
}
