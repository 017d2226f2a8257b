// What is kept although the sampler said no, and how it is written down.

import Base
import Testing

@testable import Telemetry

struct TraceKeepTests {
  private func read(_ text: String) -> (keep: TraceKeep, warnings: [String]) {
    var warnings: [String] = []
    return (TraceKeep(parsing: text, warnings: &warnings), warnings)
  }

  private func reason(_ keep: TraceKeep, failed: Bool = false, retried: Bool = false, lasted: Nanoseconds = 0)
    -> String?
  {
    keep.reason(failed: failed, retried: retried, lasted: lasted).map { "\($0)" }
  }

  @Test func everyWordIsRead() {
    let keep = read("errors, Retries ,slow=2.5").keep
    #expect(keep.errors && keep.retries)
    #expect(keep.slowerThan == 2_500 * millisecond)
    #expect(read("slow=250ms").keep.slowerThan == 250 * millisecond)
    #expect(read("slow=3s").keep.slowerThan == 3 * second)
  }

  @Test(arguments: ["fast", "slow", "slow=", "slow=x", "slow=-1", "slow=nan", "errors=1"])
  func otherWordsAreLeftOutWithAWarning(word: String) {
    let (keep, warnings) = read("retries,\(word)")
    #expect(keep.retries && !keep.errors && keep.slowerThan == nil)
    #expect(warnings.count == 1)
    #expect(warnings[0].contains(word))
  }

  @Test func nothingIsKeptWhereNothingIsAskedFor() {
    #expect(!read("").keep.isActive)
    #expect(reason(.none, failed: true, retried: true, lasted: .max) == nil)
  }

  @Test func eachRuleKeepsItsOwn() {
    #expect(reason(read("errors").keep, failed: true) == "error")
    #expect(reason(read("errors").keep, retried: true, lasted: .max) == nil)
    #expect(reason(read("retries").keep, retried: true) == "retry")
    #expect(reason(read("slow=1").keep, lasted: second + 1) == "slow")
    #expect(reason(read("slow=1").keep, lasted: second) == nil)
  }
}
