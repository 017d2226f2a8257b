// Requests: what is accepted, what is refused and how, and what is read from them.

import Base
import Foundation
import JSON
import Testing

@testable import OpenAI

private let chat = #"{"model":"m","messages":[{"role":"user","content":"hi"}]"#

@Suite struct RequestTests {
  static let accepted: [(String, Endpoint)] = [
    (chat + "}", .chatCompletions),
    (chat + #","stream":true,"stream_options":{"include_usage":true,"x":[1]}}"#, .chatCompletions),
    (
      chat + #","stream":null,"stream_options":null,"n":null,"max_tokens":null,"temperature":0.7}"#,
      .chatCompletions
    ),
    (
      chat + #","tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"n":2,"user":"é"}"#,
      .chatCompletions
    ),
    (
      #" { "messages" : [ { "content" : null , "role" : "user" } ] , "model" : "Qwen\/Qwen3" } "#,
      .chatCompletions
    ),
    (#"{"model":"m","prompt":"Once"}"#, .completions),
    (#"{"model":"m","prompt":["a","b"],"messages":7,"messages":8}"#, .completions),
    (#"{"model":"m","prompt":[1,2,3],"stream":false}"#, .completions),
    (#"{"model":"m","prompt":[[1,2],[3]],"max_tokens":16}"#, .completions),
  ]

  @Test(arguments: accepted)
  func validRequestsAreAccepted(text: String, endpoint: Endpoint) {
    #expect(refusal(text, endpoint) == nil)
  }

  @Test(arguments: accepted)
  func everyTruncationIsRefusedWithPosition(text: String, endpoint: Endpoint) throws {
    let bytes = Array(text.utf8)
    let end = try #require(bytes.lastIndex(of: UInt8(ascii: "}"))) + 1
    for length in 0..<end {
      let error = try #require(refusal(Array(bytes[..<length]), endpoint), "cut to \(length)")
      #expect(error.status == 400)
      #expect(error.code == "invalid_json")
      #expect(error.message.contains("at byte "))
    }
  }

  @Test(
    arguments: [
      ("", "invalid_json", nil), ("[]", "invalid_type", nil), ("\"x\"", "invalid_type", nil),
      ("{", "invalid_json", nil),
      (chat + "}x", "invalid_json", nil), (chat + "} {}", "invalid_json", nil),
      (chat + ",}", "invalid_json", nil),
      ("{}", "missing_required_parameter", "model"),
      (#"{"model":"m"}"#, "missing_required_parameter", "messages"),
      (#"{"model":null,"messages":[]}"#, "invalid_type", "model"),
      (#"{"model":3}"#, "invalid_type", "model"),
      (#"{"model":"","messages":[{"role":"user"}]}"#, "invalid_value", "model"),
      (#"{"model":"m","messages":null}"#, "invalid_type", "messages"),
      (#"{"model":"m","messages":"hi"}"#, "invalid_type", "messages"),
      (#"{"model":"m","messages":{}}"#, "invalid_type", "messages"),
      (#"{"model":"m","messages":[]}"#, "invalid_value", "messages"),
      (#"{"model":"m","messages":["hi"]}"#, "invalid_type", "messages[0]"),
      (
        #"{"model":"m","messages":[{"role":"user"},{"content":"x"}]}"#, "missing_required_parameter",
        "messages[1].role"
      ),
      (#"{"model":"m","messages":[{"role":null}]}"#, "invalid_type", "messages[0].role"),
      (#"{"model":"m","messages":[{"role":1}]}"#, "invalid_type", "messages[0].role"),
      (#"{"model":"m","messages":[{"role":"a","role":"b"}]}"#, "invalid_json", "messages[0].role"),
      (chat + #","stream":"yes"}"#, "invalid_type", "stream"),
      (chat + #","stream":1}"#, "invalid_type", "stream"),
      (chat + #","stream_options":{"include_usage":true}}"#, "invalid_value", "stream_options"),
      (chat + #","stream":false,"stream_options":{}}"#, "invalid_value", "stream_options"),
      (chat + #","stream":true,"stream_options":[]}"#, "invalid_type", "stream_options"),
      (chat + #","stream":true,"stream_options":true}"#, "invalid_type", "stream_options"),
      (
        chat + #","stream":true,"stream_options":{"include_usage":1}}"#, "invalid_type",
        "stream_options.include_usage"
      ),
      (
        chat + #","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
        "invalid_json",
        "stream_options.include_usage"
      ),
      (chat + #","n":0}"#, "invalid_value", "n"), (chat + #","n":-1}"#, "invalid_value", "n"),
      (chat + #","n":1.5}"#, "invalid_type", "n"), (chat + #","n":1e2}"#, "invalid_type", "n"),
      (chat + #","n":"1"}"#, "invalid_type", "n"), (chat + #","n":true}"#, "invalid_type", "n"),
      (chat + #","max_tokens":0}"#, "invalid_value", "max_tokens"),
      (chat + #","max_tokens":99999999999999999999}"#, "invalid_value", "max_tokens"),
      (chat + #","max_completion_tokens":-99999999999999999999}"#, "invalid_value", "max_completion_tokens"),
      (chat + #","max_completion_tokens":[]}"#, "invalid_type", "max_completion_tokens"),
      (chat + #","model":"n"}"#, "invalid_json", "model"),
      (chat + #","mod\u0065l":"n"}"#, "invalid_json", "model"),
      (chat + #","messages":[]}"#, "invalid_json", "messages"),
      (chat + #","stream":true,"stream":false}"#, "invalid_json", "stream"),
      (chat + #","tools":[],"tools":[]}"#, "invalid_json", "tools"),
      (chat + #","x":"\ud800"}"#, "invalid_json", nil), (chat + ",\"x\":\"\t\"}", "invalid_json", nil),
      (chat + ",\"x\":01}", "invalid_json", nil),
      // Text that is no JSON is called that, whatever was wrong before.
      (#"{"model":3,"messages":[],}"#, "invalid_json", nil),
    ] as [(String, String, String?)])
  func badChatsAreRefused(text: String, code: String, param: String?) throws {
    let error = try #require(refusal(text))
    #expect(error.status == 400)
    #expect(error.type == "invalid_request_error")
    #expect(error.code == code, "\(text)")
    #expect(error.param == param, "\(text)")
  }

  @Test(arguments: [
    (#"{"model":"m"}"#, "missing_required_parameter", "prompt"),
    (#"{"model":"m","prompt":null}"#, "missing_required_parameter", "prompt"),
    (#"{"model":"m","prompt":3}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":{}}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":[]}"#, "invalid_value", "prompt"),
    (#"{"model":"m","prompt":["a",1]}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":[1,"a"]}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":[1.5]}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":[-1]}"#, "invalid_value", "prompt"),
    (#"{"model":"m","prompt":[4294967296]}"#, "invalid_value", "prompt"),
    (#"{"model":"m","prompt":[[1],["a"]]}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":[null]}"#, "invalid_type", "prompt"),
    (#"{"model":"m","prompt":"a","prompt":"b"}"#, "invalid_json", "prompt"),
  ])
  func badCompletionsAreRefused(text: String, code: String, param: String) throws {
    let error = try #require(refusal(text, .completions))
    #expect(error.code == code, "\(text)")
    #expect(error.param == param, "\(text)")
  }

  @Test func invalidUTF8IsRefused() throws {
    let bytes = Array(chat.utf8) + Array(",\"x\":\"".utf8) + [0xff] + Array("\"}".utf8)
    let error = try #require(refusal(bytes))
    #expect(error.code == "invalid_json")
    #expect(
      error.message == "The request body is not valid JSON: invalid UTF-8 at byte \(chat.utf8.count + 6).")
  }

  @Test func nestingIsLimited() {
    func nested(_ depth: Int) -> String {
      chat + ",\"x\":" + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}"
    }
    #expect(refusal(nested(127)) == nil)
    #expect(refusal(nested(128))?.code == "invalid_json")
    #expect(refusal(nested(100_000))?.code == "invalid_json")
  }

  @Test func fieldsAreRead() throws {
    let text =
      chat + #","n":3,"max_tokens":5,"max_completion_tokens":7,"stream":true,"tools":[1],"cache_salt":"s"}"#
    try withBytes(text) { body in
      let request = try InferenceRequest.parse(body, endpoint: .chatCompletions)
      #expect(request.modelName(in: body) == "m")
      #expect(request.choices == 3)
      #expect(request.maxTokens == 7)
      #expect(request.stream)
      #expect(request.messageCount == 1)
      #expect(request.messages.map { body.slice($0).text } == #"[{"role":"user","content":"hi"}]"#)
      #expect(request.tools.map { body.slice($0).text } == "[1]")
      #expect(request.cacheSalt.map { body.slice($0).text } == "s")
      #expect(!request.hasOuterWhitespace)
    }
  }

  @Test(arguments: [
    ("{\"model\":\"m\",\"messages\":[]}", "m"), ("{\"n\":0,\"model\":\"m\"}", "m"),
    ("{\"stream\":1,\"model\":\"a\\u002fb\",\"messages\":7}", "a/b"),
    ("{\"messages\":[]}", nil), ("{\"model\":\"\"}", nil), ("{\"model\":7}", nil), ("{\"model\":\"m\"", nil),
    ("[\"model\"]", nil), ("", nil),
  ])
  func theModelOfARefusedBodyIsStillRead(text: String, model: String?) {
    Array(text.utf8).withUnsafeBytes { body in
      #expect(throws: APIError.self) { try InferenceRequest.parse(body, endpoint: .chatCompletions) }
      #expect(InferenceRequest.refused(body, endpoint: .chatCompletions)?.modelName(in: body) == model)
    }
  }

  @Test func escapedModelNamesAreDecoded() throws {
    try withBytes(#"{"model":"Qwen\/Qwen3\u002d0.6B","prompt":"x"}"#) { body in
      let request = try InferenceRequest.parse(body, endpoint: .completions)
      #expect(request.modelHasEscapes)
      #expect(request.modelName(in: body) == "Qwen/Qwen3-0.6B")
    }
  }

  @Test func mutatedRequestsNeverBreakTheParser() {
    var random = Xoshiro256(seed: 0xdead)
    for _ in 0..<20_000 {
      let (text, endpoint) = Self.accepted[Int(random.next() % UInt64(Self.accepted.count))]
      var bytes = Array(text.utf8)
      for _ in 0...(random.next() % 4) where !bytes.isEmpty {
        let index = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 4 {
        case 0: bytes[index] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.remove(at: index)
        case 2: bytes.insert(bytes[Int(random.next() % UInt64(bytes.count))], at: index)
        default:
          let other = Int(random.next() % UInt64(bytes.count))
          bytes.swapAt(index, other)
        }
      }
      let accepted = refusal(bytes, endpoint) == nil
      bytes.withUnsafeBytes { body in
        let simulated = try? SimulationRequest.parse(body, endpoint: endpoint)
        if simulated != nil { #expect(accepted) }
        guard accepted, let request = try? InferenceRequest.parse(body, endpoint: endpoint) else { return }
        // What we accept Foundation accepts too, edited or not.
        #expect((try? JSONSerialization.jsonObject(with: Data(body))) != nil)
        if let edit = request.usageEdit {
          let edited = written { edit.write(body, into: &$0) }
          #expect((try? object(edited)) != nil)
        }
      }
    }
  }
}

@Suite struct UsageEditTests {
  @Test(arguments: [
    ("", true, #"{"include_usage":true}"#),
    (#","stream_options":null"#, true, #"{"include_usage":true}"#),
    (#","stream_options":{}"#, true, #"{"include_usage":true}"#),
    (#","stream_options": { } "#, true, #"{"include_usage":true}"#),
    (#","stream_options":{"x":1}"#, true, #"{"include_usage":true,"x":1}"#),
    (#","stream_options":{"include_usage":false}"#, true, #"{"include_usage":true}"#),
    (#","stream_options":{"include_usage":null,"x":[]}"#, true, #"{"include_usage":true,"x":[]}"#),
    (#","stream_options":{ "x":{} , "include_usage" : false }"#, true, #"{"x":{},"include_usage":true}"#),
    (#","stream_options":{"include_usage":true}"#, false, #"{"include_usage":true}"#),
    (#","stream_options":{"include\u005fusage":true}"#, false, #"{"include_usage":true}"#),
  ])
  func streamsAreMadeToReportUsage(options: String, edits: Bool, expected: String) throws {
    for end in ["}", " } ", ",\"temperature\":1}"] {
      let text = chat + #","stream":true"# + options + end
      try withBytes(text) { body in
        let request = try InferenceRequest.parse(body, endpoint: .chatCompletions)
        #expect(request.includeUsage == !edits)
        #expect((request.usageEdit != nil) == edits)
        let result = written { buffer in
          if let edit = request.usageEdit { edit.write(body, into: &buffer) } else { buffer.append(body) }
        }
        if let edit = request.usageEdit { #expect(result.utf8.count == body.count + edit.growth) }
        let changed = try #require(try object(text).mutableCopy() as? NSMutableDictionary)
        changed["stream_options"] = try object(expected)
        #expect(try object(result) == changed, "\(result)")
        #expect(refusal(result) == nil)
      }
    }
  }

  @Test func answersThatAreNotStreamedAreLeftAlone() throws {
    try withBytes(chat + "}") { body in
      let request = try InferenceRequest.parse(body, endpoint: .chatCompletions)
      #expect(request.usageEdit == nil)
      #expect(!request.includeUsage)
    }
  }
}

@Suite struct CanonicalTests {
  private func canonical(_ text: String, _ endpoint: Endpoint = .chatCompletions) throws -> String {
    try withBytes(text) { body in
      let request = try InferenceRequest.parse(body, endpoint: endpoint)
      let copied = written { request.canonical(of: body, into: &$0) }
      if let slice = request.canonicalSlice(of: body) { #expect(slice.text == copied) }
      return copied
    }
  }

  @Test func whiteSpaceAndOrderMakeNoDifference() throws {
    let plain = try canonical(
      #"{"model":"m","messages":[{"role":"user","content":"a b"},{"role":"x"}],"tools":[{"a":1}]}"#)
    #expect(plain == #"[{"a":1}]{"role":"user","content":"a b"},{"role":"x"}"#)
    let spaced = """
      { "tools" : [ { "a" : 1 } ] , "model": "m",
        "messages" : [ { "role": "user", "content": "a b" } ,
        {"role":"x"} ] }
      """
    #expect(try canonical(spaced) == plain)
  }

  @Test func aLongerChatHasTheShorterAsPrefix() throws {
    let first = try canonical(chat + "}")
    let second = try canonical(
      #"{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"x"}]}"#)
    #expect(second.hasPrefix(first))
  }

  @Test func unspacedMessagesNeedNoCopy() throws {
    try withBytes("{\"model\": \"m\", \"messages\": [{\"role\":\"user\"}]}") { body in
      let request = try InferenceRequest.parse(body, endpoint: .chatCompletions)
      #expect(request.canonicalSlice(of: body)?.text == "{\"role\":\"user\"}")
    }
    try withBytes("{\"model\": \"m\", \"messages\": [{\"role\": \"user\"}]}") { body in
      let request = try InferenceRequest.parse(body, endpoint: .chatCompletions)
      #expect(request.canonicalSlice(of: body) == nil)
    }
  }

  @Test func promptsAreHashedWithoutTheirQuotes() throws {
    #expect(try canonical(#"{"model":"m","prompt": "a  b" }"#, .completions) == "a  b")
    #expect(try canonical(#"{"model":"m","prompt":[1, 2,3]}"#, .completions) == "1,2,3")
    #expect(try canonical(#"{"model":"m","prompt":["a b", "c"]}"#, .completions) == #""a b","c""#)
  }
}
