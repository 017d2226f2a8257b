// Chat templates: dates, whose moment is passed in.

import Base
import Testing

@testable import Tokenizer

struct ChatTemplateTimeTests {
  private func text(_ format: String, _ seconds: Int, _ offset: Int = 0) -> String {
    var out = ByteBuffer()
    let bytes = Array(format.utf8)
    bytes.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return }
      ChatTemplateTime(seconds: seconds, utcOffset: offset).append(JinjaText(base, bytes.count), to: &out)
    }
    return out.text
  }

  @Test(arguments: [
    (0, "1970-01-01 00:00:00 001 4"), (951_782_400, "2000-02-29 00:00:00 060 2"),
    (951_868_800, "2000-03-01 00:00:00 061 3"), (1_709_251_199, "2024-02-29 23:59:59 060 4"),
    (1_735_689_599, "2024-12-31 23:59:59 366 2"), (1_767_225_599, "2025-12-31 23:59:59 365 3"),
    (4_107_542_400, "2100-03-01 00:00:00 060 1"), (-1, "1969-12-31 23:59:59 365 3"),
    (-2_203_891_200, "1900-03-01 00:00:00 060 4"),
  ])
  func daysAreThoseOfTheCalendar(_ seconds: Int, _ expected: String) {
    #expect(text("%Y-%m-%d %H:%M:%S %j %w", seconds) == expected)
  }

  @Test func fieldsAreThoseOfTheCLocale() {
    let moment = 1_770_681_599  // 2026-02-09 23:59:59 UTC, a Monday.
    #expect(text("%d %b %Y, %B %A %a %-d %e %y", moment) == "09 Feb 2026, February Monday Mon 9  9 26")
    #expect(
      text("%I %p %-I %-M %u %C %T %R %F %D", moment) == "11 PM 11 59 1 20 23:59:59 23:59 2026-02-09 02/09/26"
    )
    #expect(
      text("%c|%x|%X|%r|%f|%s", moment)
        == "Mon Feb  9 23:59:59 2026|02/09/26|23:59:59|11:59:59 PM|000000|1770681599")
    #expect(text("%%%n%t%z%Z%q%-q%", moment) == "%\n\t%q%-q%")
    #expect(text("%H %d", moment, 3600) == "00 10")
    #expect(text("%H %I %p", 0) == "00 12 AM")
  }

  @Test func aTemplateIsToldTheTime() throws {
    #expect(try TemplateTest("{{ strftime_now('%d %b %Y') }}").render() == "09 Feb 2026")
  }
}
