// What a chat's answer must look like, where its caller says so: a call of a tool, or JSON.

internal import Base
internal import JSON

/// The form that `tool_choice` or `response_format` asks for, with the smallest text that has it.
package enum WantedForm: Sendable, Equatable {
  /// One call of the function `name` with these arguments. `isNamed` where the caller named it.
  case call(name: String, arguments: [UInt8], isNamed: Bool)
  /// The content itself.
  case json([UInt8])

  /// The text that is generated: arguments, or content.
  package var text: [UInt8] {
    switch self {
    case .call(_, let arguments, _): arguments
    case .json(let text): text
    }
  }

  /// Reads the values of these members of a chat; nil where text without a form is as good. Throws 400 as engines do.
  static func read(
    tools: JSONValue?, choice: JSONValue?, format: JSONValue?
  ) throws(APIError) -> WantedForm? {
    switch choice {
    case .string("required"): return try call(nil, of: tools)
    case .string("auto"), .string("none"), .null, nil: break
    case .object:
      guard choice?["type"]?.string == "function", let name = choice?["function"]?["name"]?.string else {
        throw .invalidValue("tool_choice", reason: "an object must be of type 'function' and name one")
      }
      return try call(name, of: tools)
    default:
      throw .invalidValue("tool_choice", reason: "it must be 'none', 'auto', 'required' or name a function")
    }
    guard let format, !format.isNull else { return nil }
    switch format["type"]?.string {
    case "text": return nil
    case "json_object": return .json(Array("{}".utf8))
    case "json_schema":
      guard let schema = format["json_schema"]?["schema"] else {
        throw .missing("response_format.json_schema.schema")
      }
      return .json(try example(of: schema, "response_format"))
    default:
      throw .invalidValue(
        "response_format", reason: "its type must be 'text', 'json_object' or 'json_schema'")
    }
  }

  /// The first tool, or the one of that name.
  private static func call(_ name: String?, of tools: JSONValue?) throws(APIError) -> WantedForm {
    let functions = (tools?.array ?? []).compactMap { $0["function"] }
    guard let function = functions.first(where: { name == nil || $0["name"]?.string == name }),
      let found = function["name"]?.string
    else {
      throw .invalidValue(
        "tool_choice", reason: name == nil ? "there are no tools to choose from" : "no tool has this name")
    }
    let arguments = try function["parameters"].map { schema throws(APIError) in
      try example(of: schema, "tools")
    }
    return .call(name: found, arguments: arguments ?? Array("{}".utf8), isNamed: name != nil)
  }

  private static func example(of schema: JSONValue, _ param: String) throws(APIError) -> [UInt8] {
    guard let value = SchemaExample.value(of: schema) else {
      throw .invalidValue(param, reason: "the schema is too large for the simulated engine")
    }
    var out = ByteBuffer()
    out.append(value)
    return out.bytes
  }
}
