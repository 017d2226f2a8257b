// Chats in which engines differ, with this process's tokens of them: an engine is asked for its own when it comes up.

internal import Base
internal import OpenAI
package import Prompts
internal import Tokenizer
package import Workers

extension ModelTokenizer {
  /// One of each thing that engines are known to do in ways of their own.
  private static let chats: [(name: String, members: String)] = [
    (
      "plain text",
      #""messages":[{"role":"system","content":"You are a helpful assistant."},"#
        + #"{"role":"user","content":"What is the capital of France?"}]"#
    ),
    (
      "several turns",
      #""messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello! "},"#
        + #"{"role":"user","content":" Tell me\n\n  a story, 12345 words.\t"}]"#
    ),
    (
      "content parts",
      #""messages":[{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]"#
    ),
    (
      "characters beyond ASCII",
      #""messages":[{"role":"user","content":"na\u00efve \u6f22\u5b57 \ud83d\ude42 \u00e9"}]"#
    ),
    (
      "decomposed characters",
      #""messages":[{"role":"user","content":"cafe\u0301 A\u030a"}]"#
    ),
    (
      "tools",
      #""messages":[{"role":"user","content":"Weather in Paris?"}],"#
        + #""tools":[{"type":"function","function":{"name":"weather","description":"Now","parameters":"#
        + #"{"type":"object","properties":{"city":{"type":"string"}}}}}]"#
    ),
  ]

  /// The samples that this tokenizer's template takes, with the ids that an engine of this kind should make of them.
  package func samples(_ engine: EngineKind, model: String) -> [PromptSample] {
    let encoder = takeEncoder()
    defer { putBack(encoder) }
    return Self.chats.compactMap { chat in
      let ids: [UInt32]? = Array("{\(chat.members)}".utf8).withUnsafeBytes { body in
        guard let fields = try? PromptFields.read(body),
          (try? encoder.encode(fields, in: body, as: ChatTemplateRules.Engine(engine), clock: nil)) != nil
        else { return nil }
        return encoder.ids.array
      }
      return ids.map { PromptSample(name: chat.name, members: chat.members, expected: $0) }
    }
  }
}
