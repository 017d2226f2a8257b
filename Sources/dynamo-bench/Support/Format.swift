// Numbers as text and aligned tables, without Foundation.

import Base

/// `value` with `digits` after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
  var buffer = ByteBuffer(capacity: 32)
  buffer.append(double: value, fraction: digits)
  return buffer.text
}

/// `value` with as many digits as make sense for a reader: three significant ones below 100, none above.
func readable(_ value: Double) -> String {
  switch value.magnitude {
  case 100...: grouped(Int(value.rounded()))
  case 10..<100: fixed(value, 1)
  default: fixed(value, 2)
  }
}

/// `value` with a comma between groups of three digits.
func grouped(_ value: Int) -> String {
  let digits = String(value.magnitude)
  var result = value < 0 ? "-" : ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0 { result.append(",") }
    result.append(digit)
  }
  return result
}

/// `text` as a JSON string with its quotes.
func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    default:
      if scalar.value < 0x20 {
        result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
  return result + "\""
}

/// A Markdown table whose columns line up when read as plain text; the first column is left aligned.
struct TextTable {
  private var rows: [[String]]

  init(_ header: [String]) { rows = [header] }

  mutating func add(_ row: [String]) { rows.append(row) }

  var text: String {
    let columns = rows[0].count
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    var result = ""
    for (index, row) in rows.enumerated() {
      for column in 0..<columns {
        let cell = column < row.count ? row[column] : ""
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        result += column == 0 ? "| \(cell)\(padding) " : "| \(padding)\(cell) "
      }
      result += "|\n"
      guard index == 0 else { continue }
      for column in 0..<columns {
        let dashes = String(repeating: "-", count: widths[column] + 1)
        result += column == 0 ? "| \(dashes)" : "| \(dashes.dropLast()):"
      }
      result += "|\n"
    }
    return result
  }
}
