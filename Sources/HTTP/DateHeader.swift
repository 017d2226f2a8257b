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

  /// Reads a date in the preferred format, `Sun, 06 Nov 1994 08:49:37 GMT`, as seconds since the Unix epoch; nil when
  /// `text` is anything else. The day's name is not held against the date.
  package static func parse(_ text: UnsafeRawBufferPointer) -> Int? {
    let pattern: StaticString = "aaa, dd aaa dddd dd:dd:dd GMT"
    guard text.count == pattern.utf8CodeUnitCount else { return nil }
    for (index, byte) in text.enumerated() {
      let fits =
        switch pattern.utf8Start[index] {
        case UInt8(ascii: "d"): (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        case UInt8(ascii: "a"): (UInt8(ascii: "A")...UInt8(ascii: "z")).contains(byte)
        default: byte == pattern.utf8Start[index]
        }
      guard fits else { return nil }
    }
    func number(_ start: Int, _ count: Int) -> Int { text.slice(start..<start + count).decimal ?? 0 }
    let name = text.slice(8..<11).text
    guard let month = months.firstIndex(where: { "\($0)" == name }) else { return nil }
    let (year, day) = (number(12, 4), number(5, 2))
    let (hour, minute, second) = (number(17, 2), number(20, 2), number(23, 2))
    guard year >= 1970, (1...31).contains(day), hour < 24, minute < 60, second < 61 else { return nil }
    return dayNumber(year, month + 1, day) * 86_400 + hour * 3_600 + minute * 60 + second
  }

  /// The inverse of ``civil(_:)``.
  private static func dayNumber(_ year: Int, _ month: Int, _ day: Int) -> Int {
    // Years that begin in March.
    let shiftedYear = month > 2 ? year : year - 1
    let shiftedMonth = month > 2 ? month - 3 : month + 9
    let dayOfYear = (153 * shiftedMonth + 2) / 5 + day - 1
    return shiftedYear * 365 + shiftedYear / 4 - shiftedYear / 100 + shiftedYear / 400 + dayOfYear - 719_468
  }
}
