// How values are printed: Python's str() and repr().

internal import Base

/// Writes values as Python prints them.
enum JinjaPrinter {
  /// Appends `str(value)`.
  static func append(_ value: JinjaValue, to out: inout ByteBuffer) {
    switch value {
    case .string(let text): out.append(text.bytes)
    case .undefined: break
    default: append(representation: value, to: &out)
    }
  }

  /// Appends `repr(value)`.
  static func append(representation value: JinjaValue, to out: inout ByteBuffer) {
    switch value {
    case .undefined: out.append("Undefined" as StaticString)
    case .none: out.append("None" as StaticString)
    case .bool(let flag): out.append(flag ? "True" as StaticString : "False")
    case .int(let number): out.append(decimal: number)
    case .bigInteger(let text): out.append(text.bytes)
    case .double(let number): PythonText.append(number, to: &out)
    case .string(let text): PythonText.append(representation: text, to: &out)
    case .list(let list): append(list, to: &out)
    case .dict(let dict): append(dict, to: &out)
    case .view(let view):
      out.append(value.typeName)
      out.append("([" as StaticString)
      append(elements: view.items, to: &out)
      out.append("])" as StaticString)
    case .range(let range):
      out.append("range(" as StaticString)
      out.append(decimal: range.start)
      out.append(", " as StaticString)
      out.append(decimal: range.start + range.count * range.step)
      if range.step != 1 {
        out.append(", " as StaticString)
        out.append(decimal: range.step)
      }
      out.append(UInt8(ascii: ")"))
    case .loop(let loop):
      out.append("<LoopContext " as StaticString)
      out.append(decimal: loop.index + 1)
      out.append(UInt8(ascii: "/"))
      out.append(decimal: loop.items.count)
      out.append(UInt8(ascii: ">"))
    default:
      // Python prints an address here, which no template can want.
      out.append(UInt8(ascii: "<"))
      out.append(value.typeName)
      out.append(" object>" as StaticString)
    }
  }

  private static func append(_ list: JinjaList, to out: inout ByteBuffer) {
    out.append(list.isTuple ? UInt8(ascii: "(") : UInt8(ascii: "["))
    append(elements: list.items, to: &out)
    if list.isTuple, list.items.count == 1 { out.append(UInt8(ascii: ",")) }
    out.append(list.isTuple ? UInt8(ascii: ")") : UInt8(ascii: "]"))
  }

  private static func append(elements: [JinjaValue], to out: inout ByteBuffer) {
    for (index, element) in elements.enumerated() {
      if index > 0 { out.append(", " as StaticString) }
      append(representation: element, to: &out)
    }
  }

  private static func append(_ dict: JinjaDict, to out: inout ByteBuffer) {
    out.append(UInt8(ascii: "{"))
    for index in 0..<dict.count {
      if index > 0 { out.append(", " as StaticString) }
      append(representation: dict.keys[index], to: &out)
      out.append(": " as StaticString)
      append(representation: dict.values[index], to: &out)
    }
    out.append(UInt8(ascii: "}"))
  }
}
