// The Date header, made once a second.

package import Base

/// A `date` field line that is rendered again only when the second changes. One per loop.
package struct DateHeader: ~Copyable {
  private var second = Int.min
  private var line = ByteBuffer(capacity: 40)

  /// Creates an empty cache.
  package init() {}

  /// Appends `date: <IMF-fixdate> CRLF` (RFC 9110 section 5.6.7) for `unixSeconds`, a point on the wall clock from
  /// 1970 to 9999.
  package mutating func append(unixSeconds: Int, to out: inout ByteBuffer) {
    if unixSeconds != second { render(unixSeconds) }
    out.append(line.readable)
  }

  private mutating func render(_ unixSeconds: Int) {
    second = unixSeconds
    line.removeAll()
    line.append("date: " as StaticString)
    HTTPDate.append(unixSeconds: unixSeconds, to: &line)
    line.append("\r\n" as StaticString)
  }
}

/// Dates in HTTP's format.
package enum HTTPDate {
  private static let weekdays: [StaticString] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
  private static let months: [StaticString] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// Appends `unixSeconds` (1970 to 9999, clamped) as `Sun, 06 Nov 1994 08:49:37 GMT`.
  package static func append(unixSeconds: Int, to out: inout ByteBuffer) {
    let seconds = min(max(unixSeconds, 0), 253_402_300_799)
    let days = seconds / 86_400
    let rest = seconds % 86_400
    let (year, month, day) = civil(days)
    out.append(weekdays[days % 7])
    out.append(", " as StaticString)
    two(day, &out)
    out.append(UInt8(ascii: " "))
    out.append(months[month - 1])
    out.append(UInt8(ascii: " "))
    out.append(decimal: year)
    out.append(UInt8(ascii: " "))
    two(rest / 3600, &out)
    out.append(UInt8(ascii: ":"))
    two(rest / 60 % 60, &out)
    out.append(UInt8(ascii: ":"))
    two(rest % 60, &out)
    out.append(" GMT" as StaticString)
  }

  private static func two(_ value: Int, _ out: inout ByteBuffer) {
    out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / 10))
    out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value % 10))
  }

  /// Year, month and day of a day number counted from 1970-01-01, by counting in eras of 400 years that begin in
  /// March, so that the leap day is a year's last.
  private static func civil(_ days: Int) -> (Int, Int, Int) {
    let shifted = days + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }
}
