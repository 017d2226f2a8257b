// `tokenizer_config.json`.

import Testing

@testable import Tokenizer

@Suite struct ConfigTests {
  private func config(_ text: String) throws(TokenizerError) -> TokenizerConfig {
    let bytes = Array(text.utf8)
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { block.deallocate() }
    block.copyBytes(from: bytes)
    return try TokenizerConfig(json: UnsafeRawBufferPointer(block))
  }

  @Test func tokensAndTemplateAreRead() throws {
    let config = try config(
      #"""
      {"bos_token": null, "eos_token": {"content": "<|im_end|>", "lstrip": false}, "pad_token": "<pad>",
       "additional_special_tokens": ["<a>", {"content": "<b>"}], "chat_template": "{{ x }}", "add_bos_token": false,
       "model_max_length": 131072, "tokenizer_class": "Qwen2Tokenizer", "unknown": [1, 2]}
      """#)
    #expect(config.beginToken == nil)
    #expect(config.endToken == "<|im_end|>")
    #expect(config.specialTokens["pad_token"] == "<pad>")
    #expect(config.additionalSpecialTokens == ["<a>", "<b>"])
    #expect(config.chatTemplate() == "{{ x }}")
    #expect(config.addsBeginToken == false)
    #expect(config.addsEndToken == nil)
    #expect(config.modelMaxLength == 131_072)
    #expect(config.tokenizerClass == "Qwen2Tokenizer")
  }

  @Test func namedTemplatesAndNoLimitAreRead() throws {
    let config = try config(
      #"""
      {"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}],
       "model_max_length": 1000000000000000019884624838656, "extra_special_tokens": {"image_token": "<img>"}}
      """#)
    #expect(config.chatTemplate() == "d")
    #expect(config.chatTemplate(named: "tool_use") == "t")
    #expect(config.chatTemplate(named: "rag") == nil)
    #expect(config.modelMaxLength == nil)
    #expect(config.specialTokens["image_token"] == "<img>")
  }

  @Test(arguments: ["", "[]", "{", #"{"chat_template": [{"name": "x"}]}"#])
  func otherFilesAreRefused(text: String) {
    #expect(throws: TokenizerError.self) { try config(text) }
  }
}
