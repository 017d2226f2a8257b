// The smallest values of schemas, and the forms that requests ask for.

import Base
import JSON
import Testing

@testable import OpenAI

struct SchemaExampleTests {
  private func value(_ schema: String) throws -> String? {
    let schema = try Array(schema.utf8).withUnsafeBytes { try JSONValue.parse($0) }
    return SchemaExample.value(of: schema).map { value in
      var out = ByteBuffer()
      out.append(value)
      return out.text
    }
  }

  @Test(arguments: [
    (
      #"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}"#,
      #"{"city":""}"#
    ),
    (
      #"{"properties":{"b":{"type":"boolean"},"a":{"type":"number"}},"required":["a","b"]}"#,
      #"{"b":false,"a":0}"#
    ),
    (
      #"{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"minProperties":1}"#,
      #"{"a":null}"#
    ),
    (#"{"type":"object","required":["unknown"]}"#, #"{"unknown":null}"#), (#"{"type":"object"}"#, "{}"),
    (#"{"type":"array","items":{"type":"integer","minimum":3},"minItems":2}"#, "[3,3]"),
    (#"{"type":"array","items":{"type":"string"}}"#, "[]"),
    (#"{"type":["null","string"],"minLength":2}"#, #""aa""#),
    (#"{"enum":["red","green"]}"#, #""red""#), (#"{"const":{"a":1}}"#, #"{"a":1}"#),
    (#"{"anyOf":[{"type":"integer"},{"type":"null"}]}"#, "0"), (#"{"oneOf":[{"const":true}]}"#, "true"),
    (
      #"{"allOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":2}},"required":["b"]}]}"#,
      #"{"a":1,"b":2}"#
    ),
    (##"{"$ref":"#/$defs/a~1b","$defs":{"a/b":{"type":"string","format":"date"}}}"##, #""2000-01-01""#),
    (##"{"$ref":"https://elsewhere.example"}"##, "null"), (##"{"$ref":"#/nothing"}"##, "null"),
    (#"{"type":"integer","maximum":-2.5}"#, "-3"), (#"{"type":"integer","exclusiveMinimum":4}"#, "5"),
    (#"{"type":"number","exclusiveMinimum":0}"#, "0.5"),
    (#"{"type":"integer","minimum":4,"multipleOf":3}"#, "6"),
    (#"{"type":"integer","exclusiveMaximum":0}"#, "-1"), (#"{"type":"number","minimum":1e300}"#, "0"),
    ("{}", "null"), ("true", "null"),
    (#"{"type":"array","items":{},"minItems":-1}"#, "[]"), (#"{"type":"string","minLength":-5}"#, #""""#),
  ])
  func schemasHaveValues(schema: String, wanted: String) throws {
    #expect(try value(schema) == wanted)
  }

  @Test func schemasThatLeadIntoThemselvesEnd() throws {
    let chain =
      ##"{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}},"required":["next"]}}}"##
    #expect(try value(chain)?.contains("null") == true)
    // Twice into itself at each step doubles with each.
    let tree =
      ##"{"$ref":"#/$defs/n","$defs":{"n":{"properties":{"l":{"$ref":"#/$defs/n"},"r":{"$ref":"#/$defs/n"}},"required":["l","r"]}}}"##
    #expect(try value(tree) == nil)
    #expect(try value(#"{"type":"string","minLength":1000000}"#)?.utf8.count == SchemaExample.countMax + 2)
    #expect(
      try value(#"{"type":"array","minItems":1000000,"items":{"const":1}}"#)?.utf8.count == 2
        * SchemaExample.countMax + 1)
  }

  private func form(_ members: String) throws -> WantedForm? {
    let body = #"{"model":"m","messages":[{"role":"user","content":"x"}],\#(members)}"#
    return try Array(body.utf8).withUnsafeBytes {
      try SimulationRequest.parse($0, endpoint: .chatCompletions).form
    }
  }

  private static let tools =
    #""tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b","parameters":{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}}}]"#

  @Test func choicesOfToolsAndFormatsAreForms() throws {
    #expect(try form(#""tool_choice":"auto""#) == nil)
    #expect(try form(Self.tools) == nil && form(Self.tools + #","tool_choice":"none""#) == nil)
    let empty = Array("{}".utf8)
    #expect(
      try form(Self.tools + #","tool_choice":"required""#)
        == .call(name: "a", arguments: empty, isNamed: false))
    let named = #","tool_choice":{"type":"function","function":{"name":"b"}}"#
    #expect(
      try form(Self.tools + named) == .call(name: "b", arguments: Array(#"{"x":0}"#.utf8), isNamed: true))
    #expect(try form(#""response_format":{"type":"text"}"#) == nil)
    #expect(try form(#""response_format":null"#) == nil)
    #expect(try form(#""response_format":{"type":"json_object"}"#) == .json(empty))
    #expect(
      try form(#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"const":7}}}"#)
        == .json(Array("7".utf8)))
  }

  @Test(arguments: [
    (#""tool_choice":"required""#, "tool_choice"), (#""tool_choice":"some""#, "tool_choice"),
    (#""tool_choice":7"#, "tool_choice"),
    (#""tool_choice":{"type":"function","function":{"name":"c"}},"# + tools, "tool_choice"),
    (#""tool_choice":{"type":"other"},"# + tools, "tool_choice"),
    (#""response_format":{"type":"xml"}"#, "response_format"), (#""response_format":7"#, "response_format"),
    (#""response_format":{"type":"json_schema"}"#, "response_format.json_schema.schema"),
    (#""top_logprobs":2"#, "top_logprobs"), (#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
    (#""logprobs":true,"top_logprobs":-1"#, "top_logprobs"),
  ])
  func whatCannotBeIsRefused(members: String, param: String) throws {
    let body = Array(#"{"model":"m","messages":[{"role":"user","content":"x"}],\#(members)}"#.utf8)
    let error = #expect(throws: APIError.self) {
      try body.withUnsafeBytes { try SimulationRequest.parse($0, endpoint: .chatCompletions) }
    }
    #expect(error?.status == 400 && error?.param == param)
  }
}
