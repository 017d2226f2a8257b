// The time that a template may ask for, and its formatting.

internal import Base

/// A moment with the offset of the place it is shown at. Nothing here reads a clock.
package struct ChatTemplateTime: Sendable, Equatable {
  /// Seconds since 1970-01-01 00:00:00 UTC.
  package let seconds: Int

  /// Seconds that local time is ahead of UTC.
  package let utcOffset: Int

  package init(seconds: Int, utcOffset: Int = 0) {
    self.seconds = seconds
    self.utcOffset = utcOffset
  }

  private static let days: [StaticString] = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]
  private static let months: [StaticString] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November",
    "December",
  ]

  /// A date of the Gregorian calendar.
  struct Fields: Equatable {
    var year = 1970
    var month = 1
    var day = 1
    var hour = 0
    var minute = 0
    var second = 0
    /// Zero for Sunday.
    var weekday = 4
    /// One for the first of January.
    var dayOfYear = 1
  }

  /// The local date and time.
  var fields: Fields {
    let local = seconds.addingReportingOverflow(utcOffset).partialValue
    let day = local >= 0 ? local / 86_400 : -((-(local + 1)) / 86_400) - 1
    let rest = local - day * 86_400
    // Counted in eras of 400 years from the first of March of year 0, so that the leap day comes last.
    let shifted = day + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayFromMarch = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayFromMarch + 2) / 153
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let isLeap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0
    return Fields(
      year: year, month: month, day: dayFromMarch - (153 * monthFromMarch + 2) / 5 + 1, hour: rest / 3600,
      minute: rest / 60 % 60, second: rest % 60, weekday: ((day + 4) % 7 + 7) % 7,
      dayOfYear: dayFromMarch >= 306 ? dayFromMarch - 305 : dayFromMarch + 60 + (isLeap ? 1 : 0) - 0)
  }

  /// Appends `format` with its fields filled in, as `datetime.strftime` does in the C locale; an unknown field stays.
  func append(_ format: JinjaText, to out: inout ByteBuffer) {
    let fields = self.fields
    var offset = 0
    while offset < format.count {
      let byte = format.base[offset]
      offset += 1
      guard byte == UInt8(ascii: "%"), offset < format.count else {
        out.append(byte)
        continue
      }
      var letter = format.base[offset]
      offset += 1
      // glibc's flag for no padding.
      let isBare = letter == UInt8(ascii: "-") && offset < format.count
      if isBare {
        letter = format.base[offset]
        offset += 1
      }
      if !append(letter, fields, isBare, to: &out) {
        out.append(UInt8(ascii: "%"))
        if isBare { out.append(UInt8(ascii: "-")) }
        out.append(letter)
      }
    }
  }

  private func append(_ letter: UInt8, _ fields: Fields, _ isBare: Bool, to out: inout ByteBuffer) -> Bool {
    let hour12 = fields.hour % 12 == 0 ? 12 : fields.hour % 12
    switch Character(Unicode.Scalar(letter)) {
    case "Y": out.append(decimal: fields.year)
    case "m": append(fields.month, isBare ? 1 : 2, to: &out)
    case "d": append(fields.day, isBare ? 1 : 2, to: &out)
    case "e": append(fields.day, isBare ? 1 : 2, padding: UInt8(ascii: " "), to: &out)
    case "H": append(fields.hour, isBare ? 1 : 2, to: &out)
    case "I": append(hour12, isBare ? 1 : 2, to: &out)
    case "M": append(fields.minute, isBare ? 1 : 2, to: &out)
    case "S": append(fields.second, isBare ? 1 : 2, to: &out)
    case "j": append(fields.dayOfYear, isBare ? 1 : 3, to: &out)
    case "y": append(((fields.year % 100) + 100) % 100, isBare ? 1 : 2, to: &out)
    case "C": append(fields.year / 100, isBare ? 1 : 2, to: &out)
    case "f": append(0, 6, to: &out)
    case "p": out.append(fields.hour < 12 ? "AM" as StaticString : "PM")
    case "u": out.append(decimal: fields.weekday == 0 ? 7 : fields.weekday)
    case "w": out.append(decimal: fields.weekday)
    case "s": out.append(decimal: seconds)
    case "A", "a":
      append(ChatTemplateTime.days[fields.weekday], isShort: letter == UInt8(ascii: "a"), to: &out)
    case "B", "b", "h":
      append(ChatTemplateTime.months[fields.month - 1], isShort: letter != UInt8(ascii: "B"), to: &out)
    case "F": append(JinjaText("%Y-%m-%d"), to: &out)
    case "T", "X": append(JinjaText("%H:%M:%S"), to: &out)
    case "R": append(JinjaText("%H:%M"), to: &out)
    case "r": append(JinjaText("%I:%M:%S %p"), to: &out)
    case "D", "x": append(JinjaText("%m/%d/%y"), to: &out)
    case "c": append(JinjaText("%a %b %e %H:%M:%S %Y"), to: &out)
    case "n": out.append(UInt8(ascii: "\n"))
    case "t": out.append(UInt8(ascii: "\t"))
    case "%": out.append(UInt8(ascii: "%"))
    // A time without a zone, as Hugging Face's, prints nothing for these.
    case "z", "Z": break
    default: return false
    }
    return true
  }

  private func append(
    _ number: Int, _ width: Int, padding: UInt8 = UInt8(ascii: "0"), to out: inout ByteBuffer
  ) {
    var bound = 10
    var digits = 1
    while number >= bound {
      bound *= 10
      digits += 1
    }
    for _ in 0..<max(width - digits, 0) { out.append(padding) }
    out.append(decimal: number)
  }

  private func append(_ name: StaticString, isShort: Bool, to out: inout ByteBuffer) {
    let text = JinjaText(name)
    out.append(text.slice(0, isShort ? 3 : text.count).bytes)
  }
}
