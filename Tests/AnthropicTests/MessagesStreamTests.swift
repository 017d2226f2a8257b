// Streams of chunks as events of Anthropic's API, cut at every byte; and whole answers.

import Base
import HTTP
import JSON
import OpenAI
import Testing

@testable import Anthropic

/// The events that `pieces` of a worker's stream become.
private func events(_ pieces: [[UInt8]], ends: Bool = false) -> String {
  var stream = MessagesStream(id: "1", model: "m")
  var scanner = SSEScanner()
  var tail = ByteBuffer()
  var out = ByteBuffer()
  for piece in pieces {
    piece.withUnsafeBytes { tail.append($0) }
    var position = 0
    while let event = scanner.next(tail.readable, from: &position) {
      if let data = event.data { stream.receive(data, into: &out) }
    }
    tail.consume(position)
  }
  if ends { stream.end(into: &out) }
  return out.text
}

private func chunk(_ delta: String, finish: String = "null", usage: String? = nil, more: String = "")
  -> String
{
  "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":\(delta),\"finish_reason\":\(finish)\(more)}]"
    + (usage.map { ",\"usage\":\($0)" } ?? "") + "}\n\n"
}

private func usage(_ prompt: Int, _ completion: Int, _ cached: Int = 0) -> String {
  "{\"prompt_tokens\":\(prompt),\"completion_tokens\":\(completion),\"prompt_tokens_details\":{\"cached_tokens\":\(cached)}}"
}

private let done = "data: [DONE]\n\n"

@Suite struct MessagesStreamTests {
  /// Types of the events, and their payloads.
  private func parsed(_ text: String) throws -> [(type: String, data: JSONValue)] {
    try text.split(separator: "\n\n").map { event in
      let lines = event.split(separator: "\n")
      let data = try json(String(lines[1].dropFirst(6)))
      #expect(lines[0] == "event: \(data["type"]?.string ?? "")")
      return (data["type"]?.string ?? "", data)
    }
  }

  private let whole =
    chunk(#"{"role":"assistant","content":""}"#, usage: usage(7, 0, 3)) + ": comment\n\n"
    + chunk(#"{"reasoning_content":"hm"}"#) + chunk(#"{"content":"Hel\"lo"}"#) + chunk(#"{"content":" ü"}"#)
    + chunk(
      #"{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}]}"#)
    + chunk(#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#)
    + chunk(#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#)
    + chunk(#"{"tool_calls":[{"index":1,"id":"t2","function":{"name":"g","arguments":"{}"}}]}"#)
    + chunk("{}", finish: "\"tool_calls\"")
    + "data: {\"choices\":[],\"usage\":\(usage(7, 9, 3))}\n\n" + done

  @Test func everySplitGivesTheSameEvents() throws {
    let bytes = Array(whole.utf8)
    let expected = events([bytes])
    for cut in 0...bytes.count {
      #expect(events([Array(bytes[..<cut]), Array(bytes[cut...])]) == expected, "cut at \(cut)")
    }
    #expect(events(bytes.map { [$0] }) == expected)
  }

  @Test func blocksFollowOneAnother() throws {
    let events = try parsed(events([Array(whole.utf8)]))
    #expect(
      events.map(\.type) == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
      ])
    let start = events[0].data["message"]
    #expect(start?["id"] == .string("msg_1"))
    #expect(start?["usage"]?["input_tokens"] == .integer(4))
    #expect(start?["usage"]?["cache_read_input_tokens"] == .integer(3))
    #expect(events[2].data["delta"]?["thinking"] == .string("hm"))
    #expect(events[5].data["delta"]?["text"] == .string("Hel\"lo"))
    #expect(events[5].data["index"] == .integer(1))
    let tool = events[8].data["content_block"]
    #expect(tool?["id"] == .string("t1"))
    #expect(tool?["name"] == .string("f"))
    #expect(tool?["input"] == .object([]))
    #expect(
      events[9].data["delta"]?["partial_json"]?.string.map {
        $0 + (events[10].data["delta"]?["partial_json"]?.string ?? "")
      }
        == "{\"a\":1}")
    #expect(events[13].data["index"] == .integer(3))
    #expect(events[15].data["delta"]?["stop_reason"] == .string("tool_use"))
    #expect(events[15].data["usage"]?["output_tokens"] == .integer(9))
  }

  @Test(arguments: [
    ("\"stop\"", "", "end_turn", JSONValue.null),
    ("\"stop\"", ",\"stop_reason\":\"EN\\\"D\"", "stop_sequence", .string("EN\"D")),
    ("\"length\"", "", "max_tokens", .null), ("\"content_filter\"", "", "refusal", .null),
    ("\"stop\"", ",\"stop_reason\":128001", "end_turn", .null),
  ]) func reasonsOfTheEnd(finish: String, more: String, reason: String, sequence: JSONValue) throws {
    let text = chunk(#"{"content":"a"}"#) + chunk("{}", finish: finish, more: more) + done
    let delta = try #require(try parsed(events([Array(text.utf8)])).first { $0.type == "message_delta" })
      .data["delta"]
    #expect(delta?["stop_reason"] == .string(reason))
    #expect(delta?["stop_sequence"] == sequence)
  }

  /// OpenAI and vLLM say `stop` where the caller chose the tool.
  @Test func aForcedCallEndsWithToolUse() throws {
    let call = #"{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}"#
    let text =
      chunk("{\"tool_calls\":[\(call)]}") + chunk("{}", finish: "\"stop\"") + done
    let delta = try #require(try parsed(events([Array(text.utf8)])).first { $0.type == "message_delta" })
    #expect(delta.data["delta"]?["stop_reason"] == .string("tool_use"))
    let answer =
      "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[\(call)]},\"finish_reason\":\"stop\"}]}"
    var out = ByteBuffer()
    #expect(Array(answer.utf8).withUnsafeBytes { MessagesAnswer.write($0, id: "1", model: "m", into: &out) })
    #expect(try json(out.text)["stop_reason"] == .string("tool_use"))
  }

  @Test func anErrorEndsTheStreamOnce() throws {
    let text =
      chunk(#"{"content":"a"}"#) + "data: {\"error\":{\"message\":\"no room\",\"code\":429}}\n\n" + done
    let events = try parsed(events([Array(text.utf8)], ends: true))
    #expect(events.map(\.type) == ["message_start", "content_block_start", "content_block_delta", "error"])
    #expect(events[3].data["error"]?["type"] == .string("rate_limit_error"))
    #expect(events[3].data["error"]?["message"] == .string("no room"))
  }

  @Test func aStreamWithoutDoneOrTokensEndsAsAMessage() throws {
    let events = try parsed(events([], ends: true))
    #expect(events.map(\.type) == ["message_start", "message_delta", "message_stop"])
  }

  @Test func withoutUsageTokensAreCounted() throws {
    let text = chunk(#"{"content":"a"}"#) + chunk(#"{"content":"b"}"#) + done
    let events = try parsed(events([Array(text.utf8)]))
    #expect(events[events.count - 2].data["usage"]?["output_tokens"] == .integer(2))
  }

  @Test func lateArgumentsGoToTheirOwnBlock() throws {
    let text =
      chunk(#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}"#)
      + chunk(#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}]}"#)
      + chunk(
        #"{"tool_calls":[{"index":0,"function":{"arguments":"}"}},{"index":1,"function":{"arguments":"}"}}]}"#
      )
      + done
    let deltas = try parsed(events([Array(text.utf8)])).filter { $0.type == "content_block_delta" }
    #expect(deltas.map { $0.data["index"] } == [.integer(0), .integer(1), .integer(0), .integer(1)])
  }

  @Test func callsAreBounded() throws {
    var stream = MessagesStream(id: "1", model: "m")
    var out = ByteBuffer()
    for index in 0...MessagesStream.callsMax {
      let isFull = stream.hasTooManyCalls
      #expect(!isFull)
      let text =
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":\(index),\"id\":\"x\",\"function\":{\"name\":\"f\"}}]}}]}"
      withBytes(text) { stream.receive($0, into: &out) }
    }
    let isFull = stream.hasTooManyCalls
    #expect(isFull)
    stream.abandon()
    out.removeAll()
    withBytes("[DONE]") { stream.receive($0, into: &out) }
    stream.end(into: &out)
    let rest = out.count
    #expect(rest == 0)
  }

  @Test(arguments: ["", "7", "{", "{\"choices\":7}", "{\"choices\":[7]}", "{\"choices\":[]}", "null"])
  func nonsenseIsPassedOver(payload: String) {
    #expect(events([Array("data: \(payload)\n\n".utf8)]) == "")
  }
}

@Suite struct MessagesAnswerTests {
  private func message(_ answer: String) throws -> JSONValue? {
    var out = ByteBuffer()
    guard withBytes(answer, { MessagesAnswer.write($0, id: "1", model: "m", into: &out) }) else { return nil }
    return try json(out.text)
  }

  @Test func aChatBecomesAMessage() throws {
    let value = try #require(
      try message(
        #"{"choices":[{"message":{"role":"assistant","content":"Hi \"you\"","reasoning":"hm","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}},{"id":"u","function":{"name":"g","arguments":"not json"}},{"id":"v","function":{"name":"h","arguments":""}}]},"finish_reason":"tool_calls","stop_reason":null}],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":6}}}"#
      ))
    let content = try #require(value["content"]?.array)
    #expect(content.map { $0["type"]?.string } == ["thinking", "text", "tool_use", "tool_use", "tool_use"])
    #expect(content[1]["text"] == .string("Hi \"you\""))
    #expect(content[2]["input"]?["a"] == .integer(1))
    #expect(content[3]["input"]?["INVALID_JSON"] == .string("not json"))
    #expect(content[4]["input"] == .object([]))
    #expect(value["stop_reason"] == .string("tool_use"))
    #expect(value["usage"]?["input_tokens"] == .integer(4))
    #expect(value["usage"]?["cache_read_input_tokens"] == .integer(6))
    #expect(value["usage"]?["output_tokens"] == .integer(4))
  }

  @Test(arguments: ["", "[]", "{}", #"{"choices":[]}"#, #"{"choices":[{}]}"#, "{\"choices\":[{\"message\":"])
  func whatIsNoChatIsRefused(answer: String) throws { #expect(try message(answer) == nil) }

  @Test(arguments: [
    (#"{"error":{"message":"too long","code":"x"}}"#, 400, "invalid_request_error", "too long"),
    (#"{"message":"flat"}"#, 404, "not_found_error", "flat"),
    (#"{"detail":"Not Found"}"#, 404, "not_found_error", "Not Found"),
    ("<html>", 500, "api_error", "The worker answered with status 500."),
    (#"{"error":"slow"}"#, 529, "overloaded_error", "slow"),
  ]) func errorsKeepTheirWords(body: String, status: Int, type: String, text: String) throws {
    var out = ByteBuffer()
    withBytes(body) { MessagesAnswer.writeError($0, status: status, into: &out) }
    let error = try json(out.text)
    #expect(error["type"] == .string("error"))
    #expect(error["error"]?["type"] == .string(type))
    #expect(error["error"]?["message"] == .string(text))
  }
}
