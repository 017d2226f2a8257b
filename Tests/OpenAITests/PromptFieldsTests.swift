// The fields that shape a prompt's tokens, read in a pass of their own.

import Base
import Testing

@testable import OpenAI

struct PromptFieldsTests {
  private func read(_ body: some Sequence<UInt8>) -> Result<PromptFields, APIError> {
    Array(body).withUnsafeBytes { bytes in
      Result { () throws(APIError) in try PromptFields.read(bytes) }
    }
  }

  private static let body =
    "{ \"m\\u006fdel\":\"a\\/b\",\"messages\":[{}],\"tools\":null,\"chat_template_kwargs\":{\"a\":[1]},"
    + "\"add_generation_prompt\":false,\"continue_final_message\":null,\"add_special_tokens\":true,"
    + "\"documents\":[],\"other\":{\"prompt\":1},\"tokens\":[1],\"tokens\":[2,3] }"

  @Test func fieldsAreFoundWhereTheyStand() throws {
    let fields = try read(Self.body.utf8).get()
    func text(_ range: Range<Int>?) -> String? {
      range.map { String(decoding: Array(Self.body.utf8)[$0], as: UTF8.self) }
    }
    #expect(fields.model == "a/b")
    #expect(text(fields.messages) == "[{}]" && text(fields.documents) == "[]")
    #expect(text(fields.templateArguments) == "{\"a\":[1]}")
    #expect(fields.tools == nil && fields.prompt == nil && !fields.hasOwnTemplate)
    #expect(fields.addGenerationPrompt == false && fields.addSpecialTokens == true)
    #expect(fields.continueFinalMessage == nil)
    // Of a key that comes twice the last one counts.
    #expect(text(fields.tokens) == "[2,3]")
    #expect(fields.limited(to: .completions).messages == nil)
    #expect(fields.limited(to: .chatCompletions).messages == fields.messages)
  }

  @Test func everyBodyThatIsCutOffIsRefused() {
    let bytes = Array(Self.body.utf8)
    for end in 0..<bytes.count {
      guard case .failure(let error) = read(bytes[..<end]) else {
        Issue.record("\(end) bytes of \(bytes.count) were taken for a body")
        continue
      }
      #expect(error.code == "invalid_json")
    }
  }

  @Test func kindsAreChecked() {
    for (body, param) in [
      ("[]", nil), ("5", nil), ("{\"add_special_tokens\":\"yes\"}", "add_special_tokens"),
    ]
      as [(String, String?)]
    {
      guard case .failure(let error) = read(body.utf8) else {
        Issue.record("\(body) was taken")
        continue
      }
      #expect(error.code == "invalid_type" && error.param == param)
    }
  }
}
