// Chat templates: what each kind of engine makes of a request before its template sees it.

import Base
import Testing

@testable import Tokenizer

/// Shows what a template is given.
private let dump = "{{ messages|tojson }}"
/// Takes text only.
private let plain =
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
/// Takes lists of parts.
private let parted = """
  {% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}\
  {{ '[image]' if p.type == 'image' else p.text }};{% endfor %}{% endif %}{% endfor %}
  """

struct ChatTemplateRuleTests {
  private func render(
    _ template: String, _ messages: String, _ engine: ChatTemplateRules.Engine, tools: String? = nil
  ) throws -> String {
    try TemplateTest(template, messages, engine, tools: tools).render()
  }

  // MARK: Content

  @Test func contentFormatIsFoundInTheTree() throws {
    func format(_ source: String, _ engine: ChatTemplateRules.Engine = .vllm) throws -> ChatContentFormat {
      try ChatTemplate(source: source).contentFormat(ChatTemplateRules(engine))
    }
    #expect(try format(plain) == .string)
    #expect(try format(parted) == .openai)
    #expect(
      try format(
        "{% set x = messages[1:] %}{% for q in x|list %}{% for c in q['content'] %}{% endfor %}{% endfor %}")
        == .openai)
    #expect(try format("{% for q in messages %}{% for c in q.parts %}{% endfor %}{% endfor %}") == .string)
    #expect(
      try format("{% for message in chat %}{% for c in message.content %}{% endfor %}{% endfor %}") == .string
    )
    #expect(
      try format("{% for message in chat %}{% for c in message.content %}{% endfor %}{% endfor %}", .sglang)
        == .openai)
    #expect(try format("{# vision #}", .sglang) == .openai)
    let macro = "{% macro show(a, b) %}{% for x in b %}{% endfor %}{% endmacro %}{% for m in messages %}"
    #expect(try format(macro + "{{ show(1, m.content) }}{% endfor %}") == .openai)
    #expect(try format(macro + "{{ show(1, b=m['content']) }}{% endfor %}") == .openai)
    #expect(try format(macro + "{{ show(m.content, 1) }}{% endfor %}") == .string)
    #expect(try format("{% set content = 1 %}{% for x in content %}{% endfor %}") == .openai)
    #expect(try format("{% macro f(content) %}{% for x in content %}{% endfor %}{% endmacro %}") == .string)
    #expect(
      try format("{% for a, b in messages %}{% for c in a.content %}{% endfor %}{% endfor %}") == .string)
  }

  private static let parts =
    #"[{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]"#

  @Test func partsAreJoinedAsTheEngineDoes() throws {
    #expect(try render(plain, Self.parts, .vllm) == "<user>one\ntwo")
    #expect(try render(plain, Self.parts, .sglang) == "<user>one two")
    #expect(try render(plain, Self.parts, .llamaCpp) == "<user>one\ntwo")
    for engine in ChatTemplateRules.Engine.allCases {
      #expect(try render(parted, Self.parts, engine) == "<user>one;two;")
    }
  }

  @Test func textBecomesAPartWhereTheEngineWrapsIt() throws {
    let messages = #"[{"role":"user","content":"x"}]"#
    let dumped = dump + "{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}"
    #expect(
      try render(dumped, messages, .vllm)
        == #"[{"role": "user", "content": [{"type": "text", "text": "x"}]}]"#)
    #expect(try render(dumped, messages, .sglang) == #"[{"role": "user", "content": "x"}]"#)
  }

  @Test func nullContentIsNothing() throws {
    let messages = #"[{"role":"assistant","content":null},{"role":"user","content":"x"}]"#
    #expect(try render(plain, messages, .vllm) == "<assistant><user>x")
    #expect(try render(plain, messages, .sglang) == "<assistant><user>x")
    #expect(try render(plain, messages, .llamaCpp) == "<assistant><user>x")
    #expect(
      try render(dump, messages, .huggingFace)
        == #"[{"role": "assistant"}, {"role": "user", "content": "x"}]"#)
  }

  @Test(arguments: ChatTemplateRules.Engine.allCases.filter { $0 != .huggingFace })
  func otherMediaMakeOtherTexts(_ engine: ChatTemplateRules.Engine) throws {
    func messages(_ url: String) -> String {
      #"[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"\#(url)"}},{"type":"text","text":"?"}]}]"#
    }
    for template in [plain, parted] {
      let first = try render(template, messages("data:image/png;base64,AAAA"), engine)
      let same = try render(template, messages("data:image/png;base64,AAAA"), engine)
      let other = try render(template, messages("data:image/png;base64,AAAB"), engine)
      #expect(first == same)
      #expect(first != other)
      #expect(first.contains("<|media:image:"))
      #expect(first.contains("see"))
    }
    #expect(try render(parted, messages("u"), engine).contains("[image];") == (engine != .llamaCpp))
  }

  @Test func unknownPartsAreRefused() {
    let messages = #"[{"role":"user","content":[{"type":"hologram"}]}]"#
    #expect(TemplateTest(plain, messages, .vllm).reason() == .input)
  }

  // MARK: Roles

  @Test func developerBecomesSystemWhereTheTemplateDoesNotKnowIt() throws {
    let messages =
      #"[{"role":"developer","content":"d"},{"role":"user","content":"x"},{"role":"system","content":"s"}]"#
    #expect(try render(plain, messages, .vllm) == "<system>d\n\ns<user>x")
    #expect(try render(plain, messages, .llamaCpp) == "<system>d<user>x<system>s")
    #expect(try render(plain, messages, .sglang) == "<developer>d<user>x<system>s")
    #expect(try render(plain + "{# 'developer' #}", messages, .vllm) == "<developer>d<user>x<system>s")
    #expect(try render(plain + "{# <|channel|> #}", messages, .llamaCpp) == "<developer>d<user>x<system>s")
  }

  @Test func aTemplateWithoutSystemRoleGetsItWithTheNextMessage() throws {
    let template =
      "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"
    let messages = #"[{"role":"system","content":"s"},{"role":"user","content":"x"}]"#
    #expect(try render(template, messages, .llamaCpp) == "s\nx")
    #expect(TemplateTest(template, messages, .vllm).reason() == .raised)
  }

  @Test func aLastAnswerIsTheUsersForSGLang() throws {
    var test = TemplateTest(
      plain, #"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#, .sglang)
    test.addGenerationPrompt = true
    #expect(try test.render() == "<user>a<user>b<a>")
  }

  // MARK: Tools

  private static let calls = #"""
    [{"role":"assistant","content":"","tool_calls":[{"type":"function","id":"1","function":{"name":"f","arguments":"{\"b\": 1, \"a\": [true]}"}}]}]
    """#

  @Test func argumentsAreParsedAsTheEngineDoes() throws {
    let vllm =
      #"[{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"arguments": {"b": 1, "a": [true]}, "name": "f"}, "type": "function"}]}]"#
    #expect(try render(dump, Self.calls, .vllm) == vllm)
    let sglang =
      #"[{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "index": null, "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": [true]}}}]}]"#
    #expect(try render(dump, Self.calls, .sglang) == sglang)
    #expect(try render(dump, Self.calls, .huggingFace).contains(#""arguments": "{\"b\": 1, \"a\": [true]}""#))
    // llama.cpp parses them for templates that print them as an object.
    #expect(try render(dump, Self.calls, .llamaCpp).contains(#""arguments": {"b": 1, "a": [true]}"#))
    let joined =
      "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ 'x' + c.function.arguments }}{% endfor %}{% endfor %}"
    #expect(try render(joined, Self.calls, .llamaCpp) == #"x{"b": 1, "a": [true]}"#)
  }

  @Test func brokenArgumentsAreNoneForVLLM() throws {
    let broken = Self.calls.replacing("[true]}", with: "")
    #expect(try render(dump, broken, .vllm).contains(#""arguments": {}"#))
    #expect(TemplateTest(dump, broken, .sglang).reason() == .input)
    let empty = #"[{"role":"assistant","content":"a","tool_calls":[]}]"#
    #expect(try render(dump, empty, .vllm) == #"[{"role": "assistant", "content": "a"}]"#)
  }

  @Test func toolsAreWhatTheEnginesModelHolds() throws {
    let tools = #"[{"type":"function","function":{"parameters":{"p":1},"name":"f","x":2}}]"#
    let show = "{{ tools|tojson }}"
    #expect(
      try render(show, "[]", .huggingFace, tools: tools)
        == tools.replacing(",", with: ", ").replacing(":", with: ": "))
    #expect(
      try render(show, "[]", .vllm, tools: tools)
        == #"[{"type": "function", "function": {"name": "f", "description": null, "parameters": {"p": 1}}}]"#)
    #expect(
      try render(show, "[]", .sglang, tools: tools)
        == #"[{"type": "function", "function": {"parameters": {"p": 1}, "name": "f"}}]"#)
    #expect(
      try render(show, "[]", .llamaCpp, tools: tools)
        == #"[{"type": "function", "function": {"name": "f", "description": "", "parameters": {"p": 1}}}]"#)
    #expect(try render("{{ tools is none }}", "[]", .vllm, tools: "[]") == "True")
    #expect(try render("{{ tools is defined }}", "[]", .llamaCpp) == "False")
  }

  @Test func sglangTriesAgainWithBareFunctions() throws {
    let flat =
      "{% for t in tools or [] %}{% if t.function %}{{ raise_exception('flat') }}{% endif %}{{ t.name }}{% endfor %}"
    let tools = #"[{"type":"function","function":{"name":"f"}}]"#
    #expect(try render(flat, "[]", .sglang, tools: tools) == "f")
    #expect(TemplateTest(flat, "[]", .vllm, tools: tools).reason() == .raised)
  }

  // MARK: Reasoning

  @Test func reasoningGoesUnderTheNamesTemplatesRead() throws {
    let show =
      "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.reasoning }}{% endfor %}"
    let given = #"[{"role":"assistant","content":"a","reasoning_content":"r"}]"#
    #expect(try render(show, given, .huggingFace) == "r|r|")
    #expect(try render(show, given, .vllm) == "r||r")
    #expect(try render(show, given, .llamaCpp) == "r||")
    #expect(try render(show, given.replacing(#""a""#, with: "null"), .vllm) == "r||r")
  }

  @Test func effortTurnsThinkingOnForVLLM() throws {
    var test = TemplateTest("{{ reasoning_effort }}|{{ enable_thinking }}", "[]", .vllm)
    test.reasoningEffort = #""low""#
    #expect(try test.render() == "low|True")
    test.reasoningEffort = #""none""#
    #expect(try test.render() == "none|False")
    test.extra = #"{"enable_thinking": "mine", "messages": 1}"#
    #expect(try test.render() == "none|mine")
    test.engine = .huggingFace
    #expect(try test.render() == "|mine")
  }

  // MARK: Continuation

  private static let unfinished = #"[{"role":"user","content":"a"},{"role":"assistant","content":"so far "}]"#

  private func continued(_ template: String, _ messages: String, _ engine: ChatTemplateRules.Engine)
    -> TemplateTest
  {
    var test = TemplateTest(template, messages, engine)
    test.continueFinalMessage = true
    return test
  }

  @Test func theLastMessageIsContinued() throws {
    let closed =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    for engine in ChatTemplateRules.Engine.allCases {
      #expect(try continued(closed, Self.unfinished, engine).render() == "<user>a</><assistant>so far ")
    }
    let trimmed = closed.replacing("m.content", with: "m.content|trim")
    #expect(try continued(trimmed, Self.unfinished, .vllm).render() == "<user>a</><assistant>so far")
  }

  @Test func partsAreContinuedAtTheirLastText() throws {
    let messages =
      #"[{"role":"assistant","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]"#
    #expect(try continued(parted, messages, .huggingFace).render() == "<assistant>one;two")
  }

  @Test func whatCannotBeContinuedIsRefused() {
    #expect(continued(plain, "[]", .vllm).reason() == .continuation)
    #expect(continued(plain, #"[{"role":"assistant"}]"#, .huggingFace).reason() == .continuation)
    #expect(continued("{# content #}", Self.unfinished, .huggingFace).reason() == .continuation)
    #expect(continued("x", Self.unfinished, .huggingFace).reason() == .continuation)
  }

  // MARK: Input

  @Test(arguments: ["", "{}", "[1]", "[", "[{}] x", #"[{"role": "\ud800"}]"#])
  func messagesMustBeAnArrayOfObjects(_ messages: String) {
    #expect(TemplateTest(dump, messages).reason() == .input)
  }

  @Test func jsonIsReadAsPythonReadsIt() throws {
    let messages =
      #"[{"b":1,"a":2,"b":3,"n":-0,"f":1E2,"i":12345678901234567890,"s":"\u00e9\ud83c\udf89\n"}]"#
    #expect(
      try render(dump, messages, .huggingFace)
        == #"[{"b": 3, "a": 2, "n": 0, "f": 100.0, "i": 12345678901234567890, "s": "é🎉\n"}]"#)
  }

  @Test func largeMappingsKeepTheirOrderAndLastValues() throws {
    let members = (0..<100).map { "\"k\($0)\":\($0)" } + ["\"k50\":\"last\""]
    let messages = "[{" + members.joined(separator: ",") + "}]"
    #expect(
      try render(
        "{{ messages[0].k50 }} {{ messages[0].k99 }} {{ messages[0]|length }} {{ messages[0].zz }}", messages,
        .huggingFace) == "last 99 100 ")
    #expect(
      try render("{{ messages[0]|list|first }} {{ (messages[0]|list)[50] }}", messages, .huggingFace)
        == "k0 k50")
  }
}
