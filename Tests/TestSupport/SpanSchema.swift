// Holds spans against Sources/Telemetry/SpanSchema.json, as Tests/Integration/support/schema.py does.

internal import Base
import Foundation
import Protobuf

/// What spans may carry.
package struct SpanSchema {
  private struct Document: Decodable {
    let spans: [Entry]
  }

  private struct Entry: Decodable {
    let id: String
    let name: String
    let match: String?
    let kinds: [String]
    let events: [String: String]
    let attributes: [Attribute]

    func names(_ name: String) -> Bool {
      guard let match else { return self.name == name }
      return name.range(of: "^(?:\(match))$", options: .regularExpression) != nil
    }
  }

  private struct Attribute: Decodable {
    let key: String
    let type: String
    let when: String
  }

  /// A span as the schema looks at it.
  private struct Seen {
    var name = ""
    var kind = ""
    var events: [String] = []
    /// Each attribute's type; nil for an empty list, which fits every list.
    var attributes: [(key: String, type: String?)] = []
  }

  private let entries: [Entry]

  /// Reads the file of this tree.
  package init() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let data = try Data(contentsOf: root.appendingPathComponent("Sources/Telemetry/SpanSchema.json"))
    entries = try JSONDecoder().decode(Document.self, from: data).spans
  }

  /// Sentences about what in these entries of `ScopeSpans.spans` is not as the schema says; and how many spans there are.
  package func check(_ bytes: UnsafeRawBufferPointer) throws -> (faults: [String], spanCount: Int) {
    var faults: [String] = []
    var count = 0
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      guard let content = field.bytes else { continue }
      count += 1
      faults += self.faults(try Self.read(content))
    }
    return (faults, count)
  }

  private func faults(_ span: Seen) -> [String] {
    let known = entries.filter {
      // In Dynamo's shape the first two spans are one.
      span.name == "http-request" && span.kind == "SERVER"
        ? $0.id == "server" || $0.id == "http-request" : $0.names(span.name) && $0.kinds.contains(span.kind)
    }
    if known.isEmpty { return ["\(span.name) of kind \(span.kind) is in no schema"] }
    let listed = known.flatMap(\.attributes)
    var faults: [String] = []
    var seen: Set<String> = []
    for (key, type) in span.attributes {
      if !seen.insert(key).inserted { faults.append("\(span.name): \(key) is there twice") }
      guard let attribute = listed.first(where: { $0.key == key }) else {
        faults.append("\(span.name): attribute \(key) is not listed")
        continue
      }
      let fits =
        switch attribute.type {
        case "id": type == "int" || type == "string"
        case let list where type == nil: list.hasSuffix("[]")
        default: attribute.type == type
        }
      if !fits { faults.append("\(span.name): \(key) is \(type ?? "an empty list"), not \(attribute.type)") }
    }
    for attribute in listed where attribute.when == "always" && !seen.contains(attribute.key) {
      faults.append("\(span.name): \(attribute.key) is always there, and is missing")
    }
    let events = known.flatMap(\.events.keys)
    faults += span.events.filter { !events.contains($0) }.map { "\(span.name): event \($0) is not listed" }
    return faults
  }

  private static func read(_ bytes: UnsafeRawBufferPointer) throws -> Seen {
    var span = Seen()
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (5, .bytes(let text)): span.name = text.text
      case (6, .varint(let kind)):
        span.kind = ["", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"][Int(kind)]
      case (9, .bytes(let pair)):
        var key = ""
        var type: String?
        var pairs = ProtobufReader(pair)
        while let part = try pairs.next(), let content = part.bytes {
          if part.number == 1 { key = content.text } else { type = try Self.type(content) }
        }
        span.attributes.append((key, type))
      case (11, .bytes(let event)):
        var parts = ProtobufReader(event)
        while let part = try parts.next() {
          if part.number == 2, let name = part.bytes { span.events.append(name.text) }
        }
      default: break
      }
    }
    return span
  }

  /// The type of an AnyValue; nil for an empty list.
  private static func type(_ bytes: UnsafeRawBufferPointer) throws -> String? {
    var reader = ProtobufReader(bytes)
    guard let value = try reader.next() else { return "nothing" }
    switch (value.number, value.value) {
    case (1, _): return "string"
    case (2, _): return "bool"
    case (3, _): return "int"
    case (4, _): return "double"
    case (5, .bytes(let list)):
      var types: Set<String> = []
      var elements = ProtobufReader(list)
      while let element = try elements.next(), let content = element.bytes {
        types.insert(try type(content) ?? "nothing")
      }
      return types.isEmpty ? nil : types.sorted().joined(separator: " or ") + "[]"
    default: return "something else"
    }
  }
}
