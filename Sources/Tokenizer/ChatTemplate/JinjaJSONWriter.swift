// The `tojson` filter as Hugging Face has it: Python's json.dumps without HTML escapes.

internal import Base
internal import JSON

/// Writes values as `json.dumps` does with these options.
struct JinjaJSONWriter {
  var isASCII = false
  /// What one level is indented by; nil for one line.
  var indent: JinjaText?
  var itemSeparator = JinjaText(", ")
  var keySeparator = JinjaText(": ")
  var sortsKeys = false
  private var level = 0

  /// The options of a call; an indent takes the space after commas away.
  init(_ call: JinjaCall, _ renderer: JinjaRenderer) throws(ChatTemplateError) {
    let values = try call.bound(to: "ensure_ascii", "indent", "separators", "sort_keys")
    isASCII = values[0]?.isTrue ?? false
    sortsKeys = values[3]?.isTrue ?? false
    if let value = values[1], !value.isNone {
      indent = try renderer.indention(value)
      itemSeparator = JinjaText(",")
    }
    if let value = values[2], !value.isNone {
      let parts = try renderer.elements(of: value)
      guard parts.count == 2 else { throw ChatTemplateError(.value, "separators are two strings") }
      itemSeparator = try parts[0].expectedText()
      keySeparator = try parts[1].expectedText()
    }
  }

  /// Appends `value`; raises on what JSON has no form for.
  mutating func append(_ value: JinjaValue, to out: inout ByteBuffer) throws(ChatTemplateError) {
    switch value {
    case .none: out.append("null" as StaticString)
    case .bool(let flag): out.append(jsonBool: flag)
    case .int(let number): out.append(decimal: number)
    case .bigInteger(let text): out.append(text.bytes)
    case .double(let number): append(number, to: &out)
    case .string(let text): append(text, to: &out)
    case .list(let list):
      try append(count: list.items.count, UInt8(ascii: "["), UInt8(ascii: "]"), to: &out) {
        (writer, index, out) throws(ChatTemplateError) in
        try writer.append(list.items[index], to: &out)
      }
    case .dict(let dict): try append(dict, to: &out)
    default: throw ChatTemplateError(.type, "Object of type \(value.typeName) is not JSON serializable")
    }
  }

  private mutating func append(_ dict: JinjaDict, to out: inout ByteBuffer) throws(ChatTemplateError) {
    let order = sortsKeys ? try sortedPositions(dict) : Array(0..<dict.count)
    try append(count: order.count, UInt8(ascii: "{"), UInt8(ascii: "}"), to: &out) {
      (writer, index, out) throws(ChatTemplateError) in
      try writer.append(key: dict.keys[order[index]], to: &out)
      out.append(writer.keySeparator.bytes)
      try writer.append(dict.values[order[index]], to: &out)
    }
  }

  private func sortedPositions(_ dict: JinjaDict) throws(ChatTemplateError) -> [Int] {
    let isUnordered = dict.keys.indices.contains { index in
      index > 0 && dict.keys[index].isLess(than: dict.keys[0]) == nil
    }
    if isUnordered { throw ChatTemplateError(.type, "keys of different types have no order") }
    return (0..<dict.count).sorted { left, right in
      dict.keys[left].isLess(than: dict.keys[right]) ?? false
    }
  }

  /// The elements between their brackets, with separators and line breaks.
  private mutating func append(
    count: Int, _ open: UInt8, _ close: UInt8, to out: inout ByteBuffer,
    _ element: (inout JinjaJSONWriter, Int, inout ByteBuffer) throws(ChatTemplateError) -> Void
  ) throws(ChatTemplateError) {
    out.append(open)
    if count > 0 {
      level += 1
      for index in 0..<count {
        if index > 0 { out.append(itemSeparator.bytes) }
        breakLine(&out)
        try element(&self, index, &out)
      }
      level -= 1
      breakLine(&out)
    }
    out.append(close)
  }

  private func breakLine(_ out: inout ByteBuffer) {
    guard let indent else { return }
    out.append(UInt8(ascii: "\n"))
    for _ in 0..<level { out.append(indent.bytes) }
  }

  private func append(key: JinjaValue, to out: inout ByteBuffer) throws(ChatTemplateError) {
    switch key {
    case .string(let text): append(text, to: &out)
    case .none, .bool, .int, .bigInteger, .double:
      out.append(UInt8(ascii: "\""))
      var writer = self
      try writer.append(key, to: &out)
      out.append(UInt8(ascii: "\""))
    default: throw ChatTemplateError(.type, "keys must be str, int, float, bool or None, not \(key.typeName)")
    }
  }

  private func append(_ number: Double, to out: inout ByteBuffer) {
    if number.isNaN {
      out.append("NaN" as StaticString)
    } else if number.isInfinite {
      out.append(number < 0 ? "-Infinity" as StaticString : "Infinity")
    } else {
      PythonText.append(number, to: &out)
    }
  }

  private func append(_ text: JinjaText, to out: inout ByteBuffer) {
    guard isASCII else {
      out.append(jsonString: text.bytes)
      return
    }
    out.append(UInt8(ascii: "\""))
    var offset = 0
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      if end == offset + 1 {
        out.append(jsonContents: text.slice(offset, end).bytes)
      } else {
        for unit in UTF16.encode(text.scalar(offset, end)) ?? UTF16.encodedReplacementCharacter {
          out.append("\\u" as StaticString)
          for shift in [12, 8, 4, 0] as [UInt16] { out.append(Hex.digit(UInt8(unit >> shift & 0xf))) }
        }
      }
      offset = end
    }
    out.append(UInt8(ascii: "\""))
  }
}
