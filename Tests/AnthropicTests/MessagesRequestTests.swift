// Messages of Anthropic's API as chats: every kind of block, every refusal, and equal prompts for equal texts.

import Base
import JSON
import OpenAI
import Testing

@testable import Anthropic

@Suite struct MessagesRequestTests {
  private func message(_ messages: String, _ more: String = "") -> String {
    #"{"model":"m","max_tokens":16,"messages":"# + messages + more + "}"
  }

  @Test func aPlainMessageIsThePlainChat() throws {
    let text = try chat(message(#"[{"role":"user","content":"Say \"hi\" ü"}]"#))
    #expect(
      text
        == #"{"model":"m","messages":[{"role":"user","content":"Say \"hi\" ü"}],"max_tokens":16}"#)
  }

  @Test(arguments: [
    (
      #"{"model":"m","max_tokens":9,"system":"Be brief.","messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"},{"content":"Bye","role":"user"}]}"#,
      #"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"},{"role":"user","content":"Bye"}]}"#
    ),
    (
      #"{"model":"m","max_tokens":9,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hello","cache_control":{"type":"ephemeral"}}]}]}"#,
      #"{"model":"m","tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"messages":[{"role":"user","content":"Hello"}]}"#
    ),
  ]) func theTranslatedPromptIsRoutedAsTheChatIs(messages: String, plain: String) throws {
    func canonical(_ text: String) throws -> String {
      try withBytes(text) { body in
        var buffer = ByteBuffer()
        try InferenceRequest.parse(body, endpoint: .chatCompletions).canonical(of: body, into: &buffer)
        return buffer.text
      }
    }
    #expect(try canonical(chat(messages)) == canonical(plain))
  }

  @Test func toolsGoBothWays() throws {
    let text = try chat(
      message(
        #"""
        [{"role":"user","content":"Weather?"},
         {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
          {"type":"text","text":"Let me see."},
          {"type":"tool_use","id":"t1","name":"weather","input":{"city": "Köln", "q": "\"x\""}}]},
         {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"rain"},{"type":"text","text":"wind"}]},
          {"type":"text","text":"And now?"}]}]
        """#,
        #","tool_choice":{"type":"tool","name":"weather","disable_parallel_tool_use":true},"tools":[{"name":"weather","input_schema":{"type":"object","properties":{}}}]"#
      ))
    let value = try json(text)
    let messages = try #require(value["messages"]?.array)
    #expect(messages.map { $0["role"]?.string } == ["user", "assistant", "tool", "user"])
    #expect(messages[1]["content"] == .string("Let me see."))
    #expect(messages[1]["reasoning_content"] == .string("hm"))
    let call = try #require(messages[1]["tool_calls"]?.array?.first)
    #expect(call["id"] == .string("t1"))
    #expect(call["function"]?["arguments"] == .string(#"{"city":"Köln","q":"\"x\""}"#))
    #expect(messages[2]["tool_call_id"] == .string("t1"))
    #expect(messages[2]["content"] == .string("rain\nwind"))
    #expect(messages[3]["content"] == .string("And now?"))
    #expect(value["tool_choice"]?["function"]?["name"] == .string("weather"))
    #expect(value["parallel_tool_calls"] == .bool(false))
    #expect(value["tools"]?.array?.first?["function"]?["parameters"]?["type"] == .string("object"))
  }

  @Test(arguments: [("auto", "\"auto\""), ("any", "\"required\""), ("none", "\"none\"")])
  func choicesOfTools(theirs: String, ours: String) throws {
    let text = try chat(
      message(#"[{"role":"user","content":"x"}]"#, ",\"tool_choice\":{\"type\":\"\(theirs)\"}"))
    #expect(text.contains("\"tool_choice\":\(ours)"))
  }

  @Test(arguments: [
    ("messages", 100_001, "[{\"role\":\"user\",\"content\":\"x\"}", "]"),
    ("messages[0].content", 10_001, "[{\"role\":\"user\",\"content\":[0", "]}]"),
    ("body", 10_001, "[{\"role\":\"user\",\"content\":\"x\"", "}]"),
  ]) func listsAreBounded(place: String, count: Int, begin: String, end: String) {
    let more = place == "body" ? ",\"k\":0" : ",0"
    let text = message(begin + String(repeating: more, count: count) + end)
    #expect(refusal(text)?.param == place)
  }

  @Test func imagesBecomeDataURLs() throws {
    let text = try chat(
      message(
        #"[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}},{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"paper"}},{"type":"text","text":"What?"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"url","url":"https://x/z.png"}}]}]}]"#
      ))
    let messages = try #require(try json(text)["messages"]?.array)
    let parts = try #require(messages[0]["content"]?.array)
    #expect(parts[0]["image_url"]?["url"] == .string("data:image/png;base64,aGk="))
    #expect(parts[1]["image_url"]?["url"] == .string("https://x/y.png"))
    #expect(parts[2]["text"] == .string("paper"))
    #expect(parts[3]["text"] == .string("What?"))
    // The image of a tool's result is shown by the user.
    #expect(messages[1]["role"] == .string("tool"))
    #expect(messages[2]["content"]?.array?.first?["image_url"]?["url"] == .string("https://x/z.png"))
  }

  @Test func fieldsAreMapped() throws {
    let text = try chat(
      message(
        #"[{"role":"user","content":"x"}]"#,
        #","stream":true,"stop_sequences":["END"],"temperature":0.5,"top_p":0.9,"top_k":4,"metadata":{"user_id":"u1"},"thinking":{"type":"enabled","budget_tokens":1024},"service_tier":"auto","cache_salt":"s""#
      ))
    let value = try json(text)
    #expect(value["stop"] == .array([.string("END")]))
    #expect(value["temperature"] == .double(0.5))
    #expect(value["top_k"] == .integer(4))
    #expect(value["user"] == .string("u1"))
    #expect(value["cache_salt"] == .string("s"))
    #expect(value["stream_options"]?["include_usage"] == .bool(true))
    #expect(value["thinking"] == nil)
    #expect(value["service_tier"] == nil)
  }

  @Test(arguments: [true, false]) func thePreambleIsLeftOut(strips: Bool) throws {
    let text = try chat(
      #"{"model":"m","max_tokens":1,"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=1"},{"type":"text","text":"You are."},{"type":"text","text":"Go."}],"messages":[{"role":"user","content":"x"}]}"#,
      stripsPreamble: strips)
    let expected = (strips ? "" : "x-anthropic-billing-header: cc_version=1\n") + "You are.\nGo."
    #expect(try json(text)["messages"]?.array?.first?["content"] == .string(expected))
  }

  @Test func countingNeedsNoLimit() throws {
    let text = #"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#
    #expect(refusal(text)?.param == "max_tokens")
    #expect(try chat(text, isCount: true) == #"{"model":"m","messages":[{"role":"user","content":"x"}]}"#)
  }

  @Test(
    arguments: [
      ("[]", nil), (#"{"max_tokens":1,"messages":[]}"#, "model"), (#"{"model":7}"#, "model"),
      (#"{"model":"","messages":[]}"#, "model"),
      (#"{"model":"m","max_tokens":1}"#, "messages"),
      (#"{"model":"m","max_tokens":1,"messages":[]}"#, "messages"),
      (#"{"model":"m","max_tokens":1,"messages":[],"messages":[]}"#, "messages"),
      (#"{"model":"m","max_tokens":1,"messages":[7]}"#, "messages[0]"),
      (#"{"model":"m","max_tokens":1,"messages":[{"content":"x"}]}"#, "messages[0].role"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"user"}]}"#, "messages[0].content"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"bot","content":"x"}]}"#, "messages[0].role"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":5}]}"#, "messages[0].content"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[5]}]}"#, "messages[0].content[0]"),
      (
        #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"audio"}]}]}"#,
        "messages[0].content[0].type"
      ),
      (
        #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file"}}]}]}"#,
        "messages[0].content[0].source"
      ),
      (
        #"{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"x"}]}]}"#,
        "messages[0].content[0].name"
      ),
      (
        #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"w"}]}"#,
        "tools[0].type"
      ),
      (
        #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"maybe"}}"#,
        "tool_choice.type"
      ),
      (#"{"model":"m","max_tokens":"9","messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"stream":1}"#, "stream"),
      (#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"system":[1]}"#, "system[0]"),
    ] as [(String, String?)]) func whatIsWrongIsNamed(text: String, param: String?) throws
  {
    let error = try #require(refusal(text))
    #expect(error.status == 400)
    #expect(error.param == param)
  }

  @Test func whatIsCutIsNoJSON() throws {
    let whole = Array(
      #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"system":"s"}"#
        .utf8)
    for count in 0..<whole.count {
      #expect(
        refusal(String(decoding: whole[..<count], as: UTF8.self))?.code == "invalid_json", "cut at \(count)")
    }
  }
}
