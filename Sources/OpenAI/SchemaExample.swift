// The smallest value that a JSON schema takes: what a simulated answer says where a form is asked for.

package import JSON

/// Makes one value of a schema. Known are `type`, `properties`, `required`, `items`, `enum`, `const`, `anyOf`, `oneOf`,
/// `allOf`, local `$ref`s, and the least lengths, counts and numbers; what is not (`pattern`, `not`) is passed over.
package struct SchemaExample {
  /// Schemas looked at for one value: references may lead into one another, and twice into the same.
  package static let visitsMax = 2_048
  /// Schemas within one another; deeper ones are null.
  static let depthMax = 32
  /// Most characters of a text and most elements of an array, whatever the schema says.
  static let countMax = 256

  private let root: JSONValue
  private var visits = 0

  /// The value; nil for a schema that takes too much work.
  package static func value(of schema: JSONValue) -> JSONValue? {
    var example = SchemaExample(root: schema)
    let value = example.value(schema, depth: 0)
    return example.visits <= visitsMax ? value : nil
  }

  private init(root: JSONValue) { self.root = root }

  private mutating func value(_ schema: JSONValue, depth: Int) -> JSONValue {
    visits += 1
    guard visits <= Self.visitsMax, depth < Self.depthMax else { return .null }
    if let constant = schema["const"] { return constant }
    if let first = schema["enum"]?.array?.first { return first }
    if let reference = schema["$ref"]?.string {
      return find(reference).map { value($0, depth: depth + 1) } ?? .null
    }
    for key in ["anyOf", "oneOf"] {
      if let first = schema[key]?.array?.first { return value(first, depth: depth + 1) }
    }
    if let parts = schema["allOf"]?.array, !parts.isEmpty { return merged(parts, depth: depth + 1) }
    switch type(of: schema) {
    case "object": return object(schema, depth: depth)
    case "array":
      let count = min(max(schema["minItems"]?.integer ?? 0, 0), Self.countMax)
      let items = schema["items"] ?? .object([])
      return .array((0..<count).map { _ in value(items, depth: depth + 1) })
    case "string": return .string(text(schema))
    case "integer": return .integer(Int(clamping: Int64(number(schema, step: 1).rounded(.up))))
    case "number":
      let number = number(schema, step: 0.5)
      return number == number.rounded() ? .integer(Int(number)) : .double(number)
    case "boolean": return .bool(false)
    default: return .null
    }
  }

  private func type(of schema: JSONValue) -> String? {
    if let name = schema["type"]?.string { return name }
    if let names = schema["type"]?.array {
      return names.compactMap(\.string).first { $0 != "null" } ?? "null"
    }
    return schema["properties"] == nil ? nil : "object"
  }

  private mutating func object(_ schema: JSONValue, depth: Int) -> JSONValue {
    let properties = schema["properties"]?.members ?? []
    let required = Set((schema["required"]?.array ?? []).compactMap(\.string))
    let least = schema["minProperties"]?.integer ?? 0
    var members: [JSONValue.Member] = []
    // In the order of their definitions, as constrained decoding writes them.
    for property in properties {
      guard required.contains(property.key) || members.count < least else { continue }
      members.append(JSONValue.Member(key: property.key, value: value(property.value, depth: depth + 1)))
    }
    let known = Set(properties.map(\.key))
    for name in required.subtracting(known).sorted().prefix(Self.countMax) {
      members.append(JSONValue.Member(key: name, value: .null))
    }
    return .object(members)
  }

  /// The members of all parts, or the first part's value where they are no objects.
  private mutating func merged(_ parts: [JSONValue], depth: Int) -> JSONValue {
    var members: [JSONValue.Member] = []
    var first: JSONValue?
    for part in parts {
      let made = value(part, depth: depth)
      if first == nil { first = made }
      for member in made.members ?? [] where !members.contains(where: { $0.key == member.key }) {
        members.append(member)
      }
    }
    return members.isEmpty ? first ?? .null : .object(members)
  }

  private func text(_ schema: JSONValue) -> String {
    switch schema["format"]?.string {
    case "date-time": return "2000-01-01T00:00:00Z"
    case "date": return "2000-01-01"
    case "time": return "00:00:00Z"
    case "email": return "a@example.com"
    case "uri", "url": return "https://example.com"
    case "uuid": return "00000000-0000-4000-8000-000000000000"
    case "ipv4": return "192.0.2.1"
    default:
      return String(repeating: "a", count: min(max(schema["minLength"]?.integer ?? 0, 0), Self.countMax))
    }
  }

  /// The allowed number that is nearest to 0, or above the least one.
  private func number(_ schema: JSONValue, step: Double) -> Double {
    var number = 0.0
    if let most = schema["maximum"]?.double, most < number { number = most.rounded(.down) }
    if let bound = schema["exclusiveMaximum"]?.double, bound <= number {
      number = (bound - step).rounded(.down)
    }
    if let least = schema["minimum"]?.double, least > number { number = least }
    if let bound = schema["exclusiveMinimum"]?.double, bound >= number { number = bound + step }
    if let unit = schema["multipleOf"]?.double, unit > 0 { number = (number / unit).rounded(.up) * unit }
    return number.isFinite && number.magnitude < 1e15 ? number : 0
  }

  /// The schema that a reference within the document names.
  private func find(_ reference: String) -> JSONValue? {
    guard reference.hasPrefix("#") else { return nil }
    var found = root
    for part in reference.dropFirst().split(separator: "/") {
      let name = String(part).replacing("~1", with: "/").replacing("~0", with: "~")
      guard let next = found[name] else { return nil }
      found = next
    }
    return found
  }
}
