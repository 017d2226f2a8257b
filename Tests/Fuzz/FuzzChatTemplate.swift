// Chat templates: neither a template nor the messages it is given can do more than raise, and text stays text.

import Base
import Tokenizer

private let messages: StaticString = """
  [{"role":"system","content":"s \\u00e9"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url",\
  "image_url":{"url":"u"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":\
  {"name":"f","arguments":"{\\"x\\": [1, 2.5, null]}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]
  """
private let tools: StaticString = """
  [{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"array"}}}}}]
  """

private func bytes(_ text: StaticString) -> UnsafeRawBufferPointer {
  UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
}

private let limits: ChatTemplateLimits = {
  var limits = ChatTemplateLimits()
  limits.stepsMax = 20_000
  limits.outputBytesMax = 1 << 20
  limits.memoryBytesMax = 16 << 20
  // Instrumented frames are several times as large.
  limits.evaluationDepthMax = 200
  return limits
}()

private func render(_ source: UnsafeRawBufferPointer, _ request: ChatTemplateRequest, _ steer: Int) {
  let engine = ChatTemplateRules.Engine.allCases[steer % 4]
  var out = ByteBuffer()
  do throws(ChatTemplateError) {
    let template = try ChatTemplate(source: source, limits: limits)
    try template.render(request, rules: ChatTemplateRules(engine), into: &out)
    require(String(validating: out.readable, as: UTF8.self) != nil, "what is rendered is UTF-8")
  } catch {
    require(out.isEmpty, "an error leaves nothing behind")
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzChatTemplate(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  // A template, and after a zero byte the messages it gets.
  let end = input.firstIndex(of: 0) ?? input.count
  exactly(input.slice(0..<end)) { source in
    exactly(input.slice(min(end + 1, input.count)..<input.count)) { given in
      var request = ChatTemplateRequest(messages: given.isEmpty ? bytes(messages) : given)
      request.tools = steer & 4 == 0 ? bytes(tools) : nil
      request.continueFinalMessage = steer & 8 != 0
      request.addGenerationPrompt = steer & 16 == 0
      request.bosToken = "<s>"
      render(source, request, steer)
    }
  }
  return 0
}
