// A model whose tokens are bytes, so that a test can say what ids a text has.

import Base
import Prompts

@testable import Frontend

enum ByteModel {
  static let start: UInt32 = 256
  static let end: UInt32 = 257
  /// ChatML, and a refusal of whatever a system message asks for.
  static let template = """
    {% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}\
    <|start|>{{ m.role }}:{{ m.content }}<|end|>{% endfor %}{% if tools %}{{ tools|length }}{% endif %}\
    {{ mood }}{% if add_generation_prompt %}<|start|>{% endif %}
    """

  /// A `tokenizer.json`: ids 0 to 255 are bytes by GPT-2's letters for them, and `<|start|>` stands before every text.
  static var file: String {
    var others: UInt32 = 256
    let entries = (0..<256).map { byte -> String in
      let isPrintable =
        (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
      let code = isPrintable ? UInt32(byte) : others
      if !isPrintable { others += 1 }
      let letter = Character(Unicode.Scalar(code) ?? " ")
      let escaped = letter == "\"" || letter == "\\" ? "\\\(letter)" : "\(letter)"
      return "\"\(escaped)\":\(byte)"
    }
    func added(_ id: UInt32, _ text: String) -> String {
      "{\"id\":\(id),\"content\":\"\(text)\",\"special\":true,\"normalized\":false,\"single_word\":false,"
        + "\"lstrip\":false,\"rstrip\":false}"
    }
    let level =
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}"
    return """
      {"added_tokens":[\(added(start, "<|start|>")),\(added(end, "<|end|>"))],"normalizer":null,\
      "pre_tokenizer":\(level),"decoder":\(level),"post_processor":{"type":"TemplateProcessing","single":\
      [{"SpecialToken":{"id":"<|start|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],\
      "special_tokens":{"<|start|>":{"id":"<|start|>","ids":[256],"tokens":["<|start|>"]}}},\
      "model":{"type":"BPE","vocab":{\(entries.joined(separator: ","))},"merges":[]}}
      """
  }

  static func load(
    file: String = file, template: String? = template, config: String = "{\"model_max_length\":4096}"
  ) throws -> ModelTokenizer {
    try ModelTokenizer(
      tokenizer: Array(file.utf8), config: Array(config.utf8), template: template.map { Array($0.utf8) },
      seed: 1)
  }

  static func ids(_ text: String) -> [UInt32] { text.utf8.map { UInt32($0) } }

  /// What the template makes of one user's message.
  static func chat(_ text: String, behind: String = "") -> [UInt32] {
    [start] + ids("user:" + text) + [end] + ids(behind) + [start]
  }
}
