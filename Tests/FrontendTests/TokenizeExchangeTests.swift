// `/tokenize` and `/detokenize`: vLLM's forms, errors, bounds, and callers that leave.

import Base
import OpenAI
import Testing
import Transport

@testable import Frontend

struct TokenizeExchangeTests {
  private func rig(edit: (inout FrontendConfiguration) -> Void = { _ in }) throws -> FrontendRig {
    let model = try ByteModel.load()
    return try FrontendRig {
      $0.tokenizer = model
      edit(&$0)
    }
  }

  private func post(_ rig: FrontendRig, _ path: String, _ body: String) -> Int32 {
    let caller = rig.connect()
    rig.send(
      "POST \(path) HTTP/1.1\r\nhost: x\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)", on: caller)
    return caller
  }

  private func answer(_ path: String, _ body: String) throws -> String {
    let rig = try rig()
    let caller = post(rig, path, body)
    rig.runPool()
    #expect(rig.shared.bodyMemoryInUse == 0)
    return rig.output(caller)
  }

  @Test(arguments: [
    ("{\"prompt\":\"ab\"}", "[256,97,98]", 3),
    ("{\"model\":\"test/model\",\"prompt\":\"ab\",\"add_special_tokens\":false}", "[97,98]", 2),
    ("{\"prompt\":\"\",\"add_special_tokens\":false}", "[]", 0),
    (
      "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "[256,117,115,101,114,58,97,257,256]", 9
    ),
    (
      "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"add_generation_prompt\":false}",
      "[256,117,115,101,114,58,97,257]", 8
    ),
  ])
  func tokens(body: String, ids: String, count: Int) throws {
    let found = try answer("/tokenize", body)
    #expect(found.status == 200)
    #expect(
      found.body == "{\"count\":\(count),\"max_model_len\":4096,\"tokens\":\(ids),\"token_strs\":null}")
  }

  @Test func texts() throws {
    #expect(
      try answer("/detokenize", "{\"tokens\":[97,34,240,159,152,128]}").body == "{\"prompt\":\"a\\\"😀\"}")
    #expect(try answer("/detokenize", "{\"tokens\":[]}").body == "{\"prompt\":\"\"}")
  }

  @Test(arguments: [
    ("/tokenize", "{", 400, "invalid_json"),
    ("/tokenize", "[]", 400, "invalid_type"),
    ("/tokenize", "{}", 400, "missing_required_parameter"),
    ("/tokenize", "{\"prompt\":[\"a\"]}", 400, "invalid_type"),
    ("/tokenize", "{\"prompt\":\"a\",\"add_special_tokens\":1}", 400, "invalid_type"),
    ("/tokenize", "{\"prompt\":\"a\",\"return_token_strs\":true}", 400, "invalid_value"),
    ("/tokenize", "{\"prompt\":\"a\",\"model\":\"nobody\"}", 404, "model_not_found"),
    ("/tokenize", "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]}", 400, "no system role"),
    ("/detokenize", "{}", 400, "missing_required_parameter"),
    ("/detokenize", "{\"tokens\":\"a\"}", 400, "invalid_type"),
    ("/detokenize", "{\"tokens\":[1,-1]}", 400, "invalid_type"),
    ("/detokenize", "{\"tokens\":[258]}", 400, "invalid_type"),
    ("/detokenize", "{\"tokens\":[1.5]}", 400, "invalid_type"),
  ])
  func faults(path: String, body: String, status: Int, words: String) throws {
    let found = try answer(path, body)
    #expect(found.status == status && found.contains(words), "\(found)")
  }

  @Test func withoutATokenizerTheRouteSaysSo() throws {
    let rig = try FrontendRig()
    for path in ["/tokenize", "/detokenize"] {
      let found = rig.output(post(rig, path, "{\"prompt\":\"a\"}"))
      #expect(found.status == 404 && found.contains("no_tokenizer") && found.contains("--model-path"))
    }
  }

  @Test func otherMethodsAreRefused() throws {
    let rig = try rig()
    let caller = rig.connect()
    rig.send("GET /tokenize HTTP/1.1\r\nhost: x\r\n\r\n", on: caller)
    let found = rig.output(caller)
    #expect(found.status == 405 && found.contains("allow: POST, OPTIONS\r\n"))
  }

  @Test func theBoundsHold() throws {
    let small = try rig { $0.bodyBytesMax = 10 }
    #expect(small.output(post(small, "/tokenize", "{\"prompt\":\"abc\"}")).status == 413)
    #expect(small.shared.bodyMemoryInUse == 0)
    let poor = try rig { $0.bodyMemoryMax = 5 }
    #expect(poor.output(post(poor, "/tokenize", "{\"prompt\":\"abc\"}")).status == 529)
    #expect(poor.shared.bodyMemoryInUse == 0)
    let full = try rig { $0.preprocess.waitingMax = 1 }
    let first = post(full, "/tokenize", "{\"prompt\":\"abc\"}")
    let refused = full.output(post(full, "/tokenize", "{\"prompt\":\"abc\"}"))
    #expect(refused.status == 529 && refused.contains("retry-after: 1\r\n"))
    full.runPool()
    #expect(full.output(first).status == 200)
    #expect(full.shared.bodyMemoryInUse == 0)
  }

  @Test func aCallerThatLeavesMeanwhileIsForgotten() throws {
    let rig = try rig()
    let caller = post(rig, "/tokenize", "{\"prompt\":\"abc\"}")
    rig.reset(caller)
    #expect(rig.isClosed(caller))
    #expect(rig.shared.bodyMemoryInUse > 0)
    rig.runPool()
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func theDrainsDeadlineAnswers() throws {
    let rig = try rig()
    let caller = post(rig, "/tokenize", "{\"prompt\":\"abc\"}")
    rig.server.drain()
    rig.server.announceCut()
    rig.turn()
    #expect(rig.output(caller).status == 503)
    rig.server.cutAll()
    rig.runPool()
    #expect(rig.shared.bodyMemoryInUse == 0)
  }
}
