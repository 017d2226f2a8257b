// Small tokenizers for tests: the reference cases' models with any parts around them.

import Testing

@testable import Tokenizer

enum SmallModel {
  /// The text of a `tokenizer.json` with the parts and the model's vocabulary.
  static func file(_ parts: String, model: String) -> String {
    let entries = model == "level" ? ReferenceCases.levelModel : ReferenceCases.piecesModel
    // The parts end in the model's flags: `…"model":{…}}`.
    return String(parts.dropLast(2)) + "," + entries + "}}"
  }

  static func load(_ text: String) throws(TokenizerError) -> Tokenizer {
    let bytes = Array(text.utf8)
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { block.deallocate() }
    block.copyBytes(from: bytes)
    return try Tokenizer(json: UnsafeRawBufferPointer(block))
  }

  /// The reference case with this name.
  static func named(_ name: String) throws -> Tokenizer {
    let found = try #require(ReferenceCases.pipelines.first { $0.name == name })
    return try load(file(found.parts, model: found.model))
  }

  /// A byte-level model of three letters and two merges, with `parts` in place of the usual ones.
  static func tiny(
    normalizer: String = "null",
    pre: String = #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}"#,
    post: String = "null", decoder: String = #"{"type":"ByteLevel"}"#, added: String = "[]",
    model: String = "", vocabulary: String = #"{"a":0,"b":1,"c":2,"ab":3,"abc":4}"#,
    merges: String = #"[["a","b"],["ab","c"]]"#
  ) -> String {
    """
    {"added_tokens":\(added),"normalizer":\(normalizer),"pre_tokenizer":\(pre),"post_processor":\(post),\
    "decoder":\(decoder),"model":{"type":"BPE"\(model),"vocab":\(vocabulary),"merges":\(merges)}}
    """
  }
}
