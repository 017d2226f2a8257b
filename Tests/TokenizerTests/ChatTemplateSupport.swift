// What the tests of chat templates share: rendering from strings, and the variables that their templates name.

import Base
import Testing

@testable import Tokenizer

/// A template with the text it must give.
struct Rendering: CustomTestStringConvertible {
  let template: String
  let text: String

  init(_ template: String, _ text: String) {
    self.template = template
    self.text = text
  }

  var testDescription: String { template }

  func render() throws -> String { try TemplateTest(template).render() }
}

/// A template that must be refused, while it is compiled or while it is rendered.
struct Refusal: CustomTestStringConvertible {
  let template: String
  let expected: ChatTemplateError.Reason

  init(_ template: String, _ expected: ChatTemplateError.Reason) {
    self.template = template
    self.expected = expected
  }

  var testDescription: String { template }

  func reason() -> ChatTemplateError.Reason? { TemplateTest(template).reason() }
}

/// One rendering, by default of no messages with ``variables``.
struct TemplateTest {
  static let variables = #"""
    {"s":"Hello World","e":"","u":"Straße ÉCOLE ΣΑΣ ß ŉ ǆ","n":3,"z":0,"neg":-7,"f":2.5,
    "big":123456789012345678901234567890,"t":true,"no":null,"l":[3,1,2],"ls":["b","a","C"],
    "d":{"b":1,"a":{"x":[1,2]},"items":"I"},"ld":[{"k":"x","v":1},{"k":"y","v":2},{"k":"X","v":3}],
    "nested":[[1,2],[3]],"ws":" \t a b \n","emo":"a🎉é","f2":1e16,"f3":1e-5,"f4":0.1}
    """#

  let template: String
  var messages = "[]"
  var tools: String?
  var extra: String? = TemplateTest.variables
  var engine = ChatTemplateRules.Engine.huggingFace
  var addGenerationPrompt = false
  var continueFinalMessage = false
  var limits = ChatTemplateLimits()
  var reasoningEffort: String?

  init(_ template: String) {
    self.template = template
  }

  init(
    _ template: String, _ messages: String, _ engine: ChatTemplateRules.Engine = .huggingFace,
    tools: String? = nil
  ) {
    self.template = template
    self.messages = messages
    self.engine = engine
    self.tools = tools
    extra = nil
  }

  func render() throws -> String {
    let compiled = try ChatTemplate(source: template, limits: limits)
    var out = ByteBuffer()
    out.append("before " as StaticString)
    try withBytes(messages) { messages in
      try withBytes(tools) { tools in
        try withBytes(extra) { extra in
          try withBytes(reasoningEffort) { effort in
            var request = ChatTemplateRequest(
              messages: messages ?? UnsafeRawBufferPointer(start: nil, count: 0))
            request.tools = tools
            request.extra = extra
            request.reasoningEffort = effort
            request.addGenerationPrompt = addGenerationPrompt
            request.continueFinalMessage = continueFinalMessage
            request.bosToken = "<s>"
            request.eosToken = "</s>"
            request.now = ChatTemplateTime(seconds: 1_770_681_599)
            try compiled.render(request, rules: ChatTemplateRules(engine), into: &out)
          }
        }
      }
    }
    #expect(out.text.hasPrefix("before "))
    return String(out.text.dropFirst("before ".count))
  }

  func reason() -> ChatTemplateError.Reason? {
    do {
      _ = try render()
      return nil
    } catch {
      return (error as? ChatTemplateError)?.reason
    }
  }

  private func withBytes(_ text: String?, _ body: (UnsafeRawBufferPointer?) throws -> Void) throws {
    guard let text else { return try body(nil) }
    try Array(text.utf8).withUnsafeBytes { try body($0) }
  }
}
