// Requests to `/v1/responses` as the chats that vLLM makes of them.

import Base
import Testing

@testable import OpenAI

struct ResponsesChatTests {
  private func chat(_ body: String) -> String? {
    var out = ByteBuffer()
    let isKnown = Array(body.utf8).withUnsafeBytes { ResponsesChat.write($0, into: &out) }
    return isKnown ? out.text : nil
  }

  @Test(arguments: [
    (#"{"input":"a \"b\""}"#, #"{"role":"user","content":"a \"b\""}"#),
    (
      #"{"input":"a","instructions":"","tools":[ ],"previous_response_id":null}"#,
      #"{"role":"user","content":"a"}"#
    ),
    (
      #"{"instructions":"be \u0062rief","input":"a"}"#,
      #"{"role":"system","content":"be \u0062rief"},{"role":"user","content":"a"}"#
    ),
    (#"{"input":"a","reasoning":{"effort":null,"summary":"auto"}}"#, #"{"role":"user","content":"a"}"#),
    (#"{"input":"a","input":"b"}"#, #"{"role":"user","content":"b"}"#),
    (
      #"{"input":[{"role":"developer","content":"x"},{"type":"message","role":"user","content":"y"}]}"#,
      #"{"role":"developer","content":"x"},{"role":"user","content":"y"}"#
    ),
    (
      #"{"input":[{"role":"user","content":[{"type":"input_text","text":"x"},{"text":"y","type":"input_text"}]}]}"#,
      #"{"role":"user","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}"#
    ),
    (
      #"{"input":[{"id":"m1","type":"message","status":"completed","role":"assistant","content":"#
        + #"[{"type":"output_text","text":"x","annotations":[],"logprobs":null}]}]}"#,
      #"{"role":"assistant","content":"x"}"#
    ),
    (#"{"instructions":"s","input":[]}"#, #"{"role":"system","content":"s"}"#),
  ])
  func whatIsKnownBecomesMessages(body: String, messages: String) {
    #expect(chat(body) == "{\"messages\":[\(messages)]}")
  }

  @Test(arguments: [
    #"{}"#, #"[]"#, #"{"input":null}"#, #"{"input":5}"#, #"{"input":[]}"#, #"{"input":"a""#,
    #"{"input":"a","tools":[{"type":"function"}]}"#, #"{"input":"a","tools":5}"#,
    #"{"input":"a","previous_response_id":"r"}"#, #"{"input":"a","prompt":{"id":"p"}}"#,
    #"{"input":"a","reasoning":{"effort":"low"}}"#, #"{"input":"a","reasoning":"low"}"#,
    #"{"input":"a","chat_template_kwargs":{}}"#, #"{"input":"a","instructions":{"a":"b"}}"#,
    #"{"input":["a"]}"#, #"{"input":[{"role":"user"}]}"#, #"{"input":[{"content":"a"}]}"#,
    #"{"input":[{"role":"tool","content":"a"}]}"#, #"{"input":[{"role":5,"content":"a"}]}"#,
    #"{"input":[{"role":"user","content":"a","name":"b"}]}"#,
    #"{"input":[{"role":"user","content":[]}]}"#, #"{"input":[{"role":"user","content":{}}]}"#,
    #"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]}"#,
    #"{"input":[{"role":"user","content":[{"type":"input_text"}]}]}"#,
    #"{"input":[{"role":"user","content":["a"]}]}"#,
    #"{"input":[{"role":"assistant","content":[{"type":"output_text","text":"a"},{"type":"output_text","text":"b"}]}]}"#,
    #"{"input":[{"role":"assistant","content":"a","status":"in_progress"}]}"#,
    #"{"input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}]}"#,
    #"{"input":[{"type":"function_call_output","call_id":"c","output":"x"}]}"#,
    #"{"input":[{"type":"reasoning","summary":[]},{"role":"user","content":"a"}]}"#,
  ])
  func whatOnlyTheEngineKnowsIsNone(body: String) {
    #expect(chat(body) == nil)
  }

  @Test func aBodyThatEndsAnywhereIsNone() {
    let body = #"{"instructions":"s","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}]}"#
    for end in 0..<body.utf8.count {
      #expect(chat(String(decoding: body.utf8.prefix(end), as: UTF8.self)) == nil)
    }
    #expect(chat(body) != nil)
  }
}
