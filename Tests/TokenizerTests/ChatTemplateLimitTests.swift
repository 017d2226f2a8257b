// Chat templates: every bound is met by its own error, and none by a crash.

import Base
import Testing

@testable import Tokenizer

struct ChatTemplateLimitTests {
  private func reason(_ template: String, _ change: (inout ChatTemplateLimits) -> Void = { _ in })
    -> ChatTemplateError
    .Reason?
  {
    var test = TemplateTest(template)
    change(&test.limits)
    return test.reason()
  }

  @Test func aLongTemplateIsRefused() {
    #expect(reason(String(repeating: "a", count: 101)) { $0.sourceBytesMax = 100 } == .sourceTooLarge)
    #expect(reason(String(repeating: "a", count: 100)) { $0.sourceBytesMax = 100 } == nil)
  }

  @Test(arguments: [
    "{{ " + String(repeating: "(", count: 5000) + "1" + String(repeating: ")", count: 5000) + " }}",
    "{{ " + String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000) + " }}",
    "{{ " + String(repeating: "not ", count: 5000) + "1 }}",
    "{{ " + String(repeating: "-", count: 5000) + "1 }}",
    "{{ 1" + String(repeating: " + 1", count: 5000) + " }}",
    "{{ 1" + String(repeating: " if 1 else 1", count: 5000) + " }}",
    "{{ s" + String(repeating: ".x", count: 5000) + " }}",
    "{{ s" + String(repeating: "[0]", count: 5000) + " }}",
    "{{ s" + String(repeating: "|upper", count: 5000) + " }}",
    String(repeating: "{% if 1 %}", count: 5000) + String(repeating: "{% endif %}", count: 5000),
    "{% if 1 %}" + String(repeating: "{% elif 1 %}", count: 5000) + "{% endif %}",
    String(repeating: "{% for i in l %}", count: 5000) + String(repeating: "{% endfor %}", count: 5000),
  ])
  func deepSyntaxIsRefused(_ template: String) {
    #expect(reason(template) == .nestedTooDeep)
  }

  @Test func longListsAndTextsAreNoDepth() {
    #expect(reason("{{ [" + String(repeating: "1, ", count: 5000) + "]|length }}") == nil)
    #expect(reason("{{ 'a'" + String(repeating: " ~ 'a'", count: 5000) + " }}") == nil)
    #expect(reason(String(repeating: "{{ 1 }}{% if 1 %}x{% endif %}", count: 2000)) == nil)
  }

  @Test(arguments: [
    "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
    // Long operations count by their length.
    "{% set x = 'ab' * 500000 %}{% for a in range(100000) %}{% if 'c' in x %}{% endif %}{% endfor %}",
    "{% for a in range(100000) %}{% set x = l|sort|list|unique|join %}{% endfor %}",
    "{% set x = range(100000)|list %}{% for a in range(100000) %}{% if x == x %}{% endif %}{% endfor %}",
    "{% set x = range(100000)|list %}{% for a in x %}{% set y = x|sort %}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for a in range(100000) %}{% set y = x.split('b') %}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for a in range(100000) %}{% set y = x|length %}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for a in range(100000) %}{% set y = x[-1] %}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for a in range(100000) %}{% set y = x|trim('a') %}{% endfor %}",
  ])
  func workIsBounded(_ template: String) {
    #expect(reason(template) { $0.stepsMax = 200_000 } == .tooManySteps)
  }

  @Test func outputIsBounded() {
    let template = "{% for a in range(1000) %}0123456789{% endfor %}"
    #expect(reason(template) { $0.outputBytesMax = 9999 } == .outputTooLarge)
    #expect(reason(template) { $0.outputBytesMax = 10_000 } == nil)
    #expect(
      reason("{{ l|tojson(indent=100000) }}{{ ('x' * 99)|indent(100) }}") { $0.outputBytesMax = 9999 }
        == .outputTooLarge)
    #expect(reason("{{ ('a' * 3000).replace('', 'bbbb') }}") { $0.outputBytesMax = 9999 } == .outputTooLarge)
  }

  @Test func memoryIsBounded() {
    #expect(reason("{{ 'x' * 1000000000000 }}") == .outOfMemory)
    #expect(reason("{{ [1] * 1000000000000 }}") == .outOfMemory)
    #expect(reason("{{ 'x' * 9223372036854775807 * 3 }}") == .outOfMemory)
    let doubling =
      "{% set ns = namespace(x='0123456789') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
    #expect(reason(doubling) == .outOfMemory)
    let growing =
      "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
    #expect(reason(growing) == .outOfMemory)
    #expect(reason("{{ 'x'.center(1000000000000) }}") == .outOfMemory)
    #expect(reason("{{ '{:1000000}'.format(1) }}") != nil)
    #expect(reason("{% set x = 'a' * 100 %}") { $0.memoryBytesMax = 4096 } != .syntax)
  }

  @Test func recursionIsBounded() {
    #expect(reason("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}") == .recursionTooDeep)
    #expect(
      reason("{% macro m(x) %}{% call m(x) %}{% endcall %}{{ caller() }}{% endmacro %}{{ m(1) }}") != nil)
    #expect(
      reason("{% macro m(x) %}{{ x }}{% if x %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(40) }}") == nil)
  }

  @Test func valuesNestOnlySoDeep() {
    let list =
      "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"
    #expect(reason(list) == .valueTooDeep)
    let dict =
      "{% set ns = namespace(x={}) %}{% for i in range(10000) %}{% set ns.x = {'k': ns.x} %}{% endfor %}"
    #expect(reason(dict) == .valueTooDeep)
    let generator =
      "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% set ns.x = [ns.x]|select %}{% endfor %}"
    #expect(reason(generator) == .valueTooDeep)
    let methods =
      "{% set ns = namespace(x={}) %}{% for i in range(10000) %}{% set ns.x = {'k': ns.x}.get %}{% endfor %}"
    #expect(reason(methods) == .valueTooDeep)
  }

  @Test func whatHoldsItselfDoesNotLast() throws {
    weak var seen: JinjaNamespace?
    do {
      let program = try "{% set ns = namespace() %}{% set ns.me = ns %}{% macro m() %}{% endmacro %}".utf8
        .withContiguousStorageIfAvailable {
          try JinjaProgram.compile(UnsafeRawBufferPointer($0), limits: ChatTemplateLimits())
        }
      let renderer = JinjaRenderer(
        program: try #require(program), limits: ChatTemplateLimits(), arena: JinjaArena(bytesMax: 1 << 20),
        now: ChatTemplateTime(seconds: 0))
      try renderer.run()
      for case .namespace(let namespace)? in renderer.activation.slots { seen = namespace }
      #expect(seen != nil)
    }
    #expect(seen == nil)
  }

  @Test func anErrorKnowsItsLine() {
    do {
      _ = try TemplateTest("a\n{% if 1 %}\n\n{{ 1 / 0 }}\n{% endif %}").render()
      Issue.record("division by zero is an error")
    } catch {
      #expect((error as? ChatTemplateError)?.line == 4)
    }
  }

  @Test func aTemplateThatIsNoTextIsRefused() {
    let bytes: [UInt8] = [0x61, 0xff, 0x62]
    #expect(throws: ChatTemplateError.self) {
      try bytes.withUnsafeBytes { _ = try ChatTemplate(source: $0) }
    }
  }
}
