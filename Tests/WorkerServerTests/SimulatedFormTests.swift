// Answers of the simulated engine in the forms that callers ask for: tool calls, JSON, log probabilities.

import Foundation
import Testing

@testable import WorkerServer

@Suite struct SimulatedFormTests {
  private static let tools =
    #""tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string","minLength":9},"days":{"enum":["größer"]}},"required":["city","days"]}}}]"#
  private static let arguments = #"{"city":"aaaaaaaaa","days":"größer"}"#
  private static let schema =
    #""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}}}"#

  private func json(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func choice(_ text: String) throws -> [String: Any] {
    try #require((try json(text)["choices"] as? [[String: Any]])?.first)
  }

  private func deltas(_ events: [String]) throws -> [(delta: [String: Any], choice: [String: Any])] {
    try events.dropLast().compactMap { event in
      guard let choice = (try json(event)["choices"] as? [[String: Any]])?.first else { return nil }
      return (choice["delta"] as? [String: Any] ?? [:], choice)
    }
  }

  @Test(arguments: [
    (#""tool_choice":"required""#, "tool_calls"),
    (#""tool_choice":{"type":"function","function":{"name":"weather"}}"#, "stop"),
  ])
  func aChosenToolIsCalled(_ chosen: String, _ finish: String) throws {
    let rig = try Rig()
    let whole = try choice(rig.perform(body: rig.chat("\(Self.tools),\(chosen)")).body)
    #expect(whole["finish_reason"] as? String == finish)
    let message = try #require(whole["message"] as? [String: Any])
    let call = try #require((message["tool_calls"] as? [[String: Any]])?.first)
    let function = try #require(call["function"] as? [String: Any])
    #expect(
      call["type"] as? String == "function" && (call["id"] as? String)?.hasPrefix("chatcmpl-tool-") == true)
    #expect(function["name"] as? String == "weather" && function["arguments"] as? String == Self.arguments)
    #expect(message["content"] as? String == "")

    let parts = try deltas(rig.perform(body: rig.chat("\"stream\":true,\(Self.tools),\(chosen)")).events)
    #expect(parts.first?.delta["role"] as? String == "assistant")
    let calls = parts.compactMap { ($0.delta["tool_calls"] as? [[String: Any]])?.first }
    let functions = calls.compactMap { $0["function"] as? [String: Any] }
    #expect(functions.first?["name"] as? String == "weather" && calls.first?["id"] != nil)
    #expect(functions.compactMap { $0["arguments"] as? String }.joined() == Self.arguments)
    #expect(calls.dropFirst().allSatisfy { $0["id"] == nil } && calls.count > 5)
    #expect(parts.last?.choice["finish_reason"] as? String == finish)
  }

  @Test func aFormatIsKept() throws {
    let rig = try Rig()
    for (format, wanted) in [
      (#""response_format":{"type":"json_object"}"#, "{}"), (Self.schema, #"{"ok":false}"#),
    ] {
      // A stop text within it does not end it.
      let whole = try choice(rig.perform(body: rig.chat("\(format),\"stop\":\"}\"")).body)
      #expect((whole["message"] as? [String: Any])?["content"] as? String == wanted)
      #expect(whole["finish_reason"] as? String == "stop")
      let parts = try deltas(rig.perform(body: rig.chat("\"stream\":true,\(format)")).events)
      #expect(parts.compactMap { $0.delta["content"] as? String }.joined() == wanted)
      #expect(parts.last?.choice["finish_reason"] as? String == "stop")
    }
  }

  @Test func aLimitCutsIt() throws {
    let rig = try Rig()
    let answer = try json(rig.perform(body: rig.chat("\(Self.schema),\"max_tokens\":2")).body)
    let whole = try #require((answer["choices"] as? [[String: Any]])?.first)
    #expect(whole["finish_reason"] as? String == "length")
    #expect((whole["message"] as? [String: Any])?["content"] as? String == #"{"ok":fa"#)
    #expect((answer["usage"] as? [String: Any])?["completion_tokens"] as? Int == 2)
  }

  @Test func everyChoiceHasItsOwn() throws {
    let rig = try Rig()
    let answer = try json(
      rig.perform(body: rig.chat("\(Self.tools),\"tool_choice\":\"required\",\"n\":2")).body)
    let choices = try #require(answer["choices"] as? [[String: Any]])
    let ids = choices.compactMap { choice in
      ((choice["message"] as? [String: Any])?["tool_calls"] as? [[String: Any]])?.first?["id"] as? String
    }
    #expect(Set(ids).count == 2)
  }

  // MARK: Log probabilities

  private func entries(_ choice: [String: Any]) -> [[String: Any]] {
    (choice["logprobs"] as? [String: Any])?["content"] as? [[String: Any]] ?? []
  }

  @Test func logprobsFollowTheText() throws {
    let rig = try Rig()
    let asked = #""logprobs":true,"top_logprobs":3,"max_tokens":12"#
    let whole = try choice(rig.perform(body: rig.chat(asked)).body)
    let content = try #require((whole["message"] as? [String: Any])?["content"] as? String)
    let all = entries(whole)
    #expect(all.count == 12 && all.compactMap { $0["token"] as? String }.joined() == content)
    for entry in all {
      let token = try #require(entry["token"] as? String)
      let value = try #require(entry["logprob"] as? Double)
      #expect(value <= 0 && entry["bytes"] as? [Int] == token.utf8.map(Int.init))
      let top = try #require(entry["top_logprobs"] as? [[String: Any]])
      let values = top.compactMap { $0["logprob"] as? Double }
      #expect(top.count == 3 && top.first?["token"] as? String == token && values == values.sorted(by: >))
      #expect(Set(top.compactMap { $0["token"] as? String }).count == 3)
    }
    // The same answer tells the same, streamed too.
    let streamed = try deltas(rig.perform(body: rig.chat("\"stream\":true,\(asked)")).events)
    let parts = streamed.flatMap { entries($0.choice) }
    #expect(parts.compactMap { $0["logprob"] as? Double } == all.compactMap { $0["logprob"] as? Double })
    #expect(streamed.first?.choice["logprobs"] is NSNull)
  }

  @Test func nobodyIsToldWhoDoesNotAsk() throws {
    let rig = try Rig()
    #expect(try choice(rig.perform(body: rig.chat("\"max_tokens\":3")).body)["logprobs"] is NSNull)
    let alone = try choice(rig.perform(body: rig.chat("\"max_tokens\":3,\"logprobs\":true")).body)
    #expect(entries(alone).count == 3)
    #expect(entries(alone).allSatisfy { ($0["top_logprobs"] as? [Any])?.isEmpty == true })
  }
}
