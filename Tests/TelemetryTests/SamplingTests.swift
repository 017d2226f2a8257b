// Samplers, and consistent probability sampling: thresholds and the `ot` member of tracestate.

import Base
import Testing

@testable import Telemetry

@Suite struct SamplingThresholdTests {
  private func text(_ share: Double, _ digits: Int) -> String {
    String(decoding: SamplingThreshold(keeping: share, digits: digits).text, as: UTF8.self)
  }

  /// The specification's table, "Converting floating-point probability to threshold value".
  @Test(arguments: [
    (1.0, "0", "0", "0"), (0.5, "8", "8", "8"), (1.0 / 3, "aab", "aaab", "aaaab"), (0.25, "c", "c", "c"),
    (0.2, "ccd", "cccd", "ccccd"), (0.125, "e", "e", "e"), (0.1, "e66", "e666", "e6666"),
    (0.0625, "f", "f", "f"), (0.01, "fd71", "fd70a", "fd70a4"), (0.001, "ffbe7", "ffbe77", "ffbe76d"),
    (0.0001, "fff972", "fff9724", "fff97247"), (0.00001, "ffff584", "ffff583a", "ffff583a5"),
    (0.000001, "ffffef4", "ffffef39", "ffffef391"),
  ]) func sharesBecomeTheSpecificationsThresholds(
    _ share: Double, _ three: String, _ four: String, _ five: String
  ) {
    #expect(text(share, 3) == three && text(share, 4) == four && text(share, 5) == five)
  }

  @Test(arguments: [1.0, 0.9999999, 0.5, 1.0 / 3, 0.01, 1e-6, 1e-9, 0x1p-56])
  func whatIsWrittenIsReadBack(_ share: Double) {
    let threshold = SamplingThreshold(keeping: share)
    #expect(threshold.text.withUnsafeBytes { SamplingThreshold($0) } == threshold)
  }

  @Test(arguments: ["", "g", "0x8", "123456789012345", "-1"]) func otherTextsAreNoThresholds(_ text: String) {
    #expect(withBytes(text) { SamplingThreshold($0) } == nil)
  }

  @Test func zerosAtTheEndAreLeftOut() {
    #expect(withBytes("fd70a4") { SamplingThreshold($0) }?.rejected == 0xfd70_a400_0000_00)
    #expect(withBytes("0") { SamplingThreshold($0) } == .zero)
    #expect(withBytes("00000000000001") { SamplingThreshold($0) }?.rejected == 1)
  }

  @Test func theBoundIsKept() {
    let half = SamplingThreshold(keeping: 0.5)
    #expect(half.keeps(1 << 55) && !half.keeps(1 << 55 - 1))
    #expect(SamplingThreshold.zero.keeps(0))
    for share in [0, -1, 0x1p-57, -Double.infinity] {
      #expect(!SamplingThreshold(keeping: share).keeps(1 << 56 - 1))
    }
    #expect(SamplingThreshold(keeping: 7).keeps(0))
  }
}

@Suite struct ConsistentSamplingTests {
  /// A trace whose random bits are these.
  private func trace(_ randomness: UInt64) -> TraceID { TraceID(high: 1, low: randomness) }

  private func sample(
    _ sampler: Sampler, _ randomness: UInt64, parent: Bool? = nil, _ state: String = ""
  ) -> (isKept: Bool, state: String) {
    var list = Array(state.utf8)
    let isKept = sampler.samples(trace(randomness), parent: parent, state: &list)
    return (isKept, String(decoding: list, as: UTF8.self))
  }

  @Test func aShareWritesItsThresholdOnWhatItKeeps() {
    #expect(sample(.ratio(0.25), 0xc0_0000_0000_0000) == (true, "ot=th:c"))
    #expect(sample(.ratio(0.25), 0xbf_ffff_ffff_ffff) == (false, ""))
    #expect(sample(.parentBasedRatio(0.25), 0xc0_0000_0000_0000, parent: nil) == (true, "ot=th:c"))
    #expect(sample(.ratio(1), 0) == (true, "ot=th:0"))
    #expect(sample(.ratio(0), .max) == (false, ""))
  }

  @Test func theExplicitRandomValueStandsForTheTraces() {
    #expect(
      sample(.ratio(0.5), 0, parent: false, "ot=rv:80000000000000") == (true, "ot=th:8;rv:80000000000000"))
    #expect(
      sample(.ratio(0.5), .max, parent: true, "ot=rv:7fffffffffffff") == (false, "ot=rv:7fffffffffffff"))
    // Fourteen lower-case digits or nothing: it is not passed on either.
    for value in ["8", "8000000000000g", "8000000000000A", "800000000000000"] {
      #expect(sample(.ratio(0.5), 0, parent: true, "ot=th:0;rv:\(value)") == (false, ""))
    }
  }

  @Test func theChangedMemberGoesToTheLeftAndTheRestStays() {
    #expect(
      sample(.ratio(0.5), .max, parent: true, "rojo=1,ot=p:8;th:0;rv:ffffffffffffff;k:x,congo=2")
        == (true, "ot=th:8;rv:ffffffffffffff;p:8;k:x,rojo=1,congo=2"))
    #expect(sample(.ratio(0.5), .max, parent: true, "rojo=1,congo=2") == (true, "ot=th:8,rojo=1,congo=2"))
    #expect(sample(.ratio(0.5), 0, parent: true, "rojo=1,ot=th:0,congo=2") == (false, "rojo=1,congo=2"))
    #expect(sample(.ratio(0.5), 0, parent: true, "rojo=1,ot=p:8") == (false, "rojo=1,ot=p:8"))
  }

  @Test func aFullListLosesItsLastMember() {
    let members = (0..<32).map { "k\($0)=v" }
    let (isKept, state) = sample(.ratio(0.5), .max, parent: true, members.joined(separator: ","))
    #expect(isKept && state == "ot=th:8," + members.dropLast().joined(separator: ","))
  }

  @Test func aMemberThatWouldBeTooLongIsLeftOut() {
    let long = "ot=" + String(repeating: "k:v;", count: 63) + "a:1"
    #expect(sample(.ratio(0.5), .max, parent: true, "\(long),a=1") == (true, "a=1"))
  }

  @Test func whoFollowsACallerPassesItsThresholdOnWhereTheyAgree() {
    let half = "ot=th:8"
    #expect(sample(.parentBasedRatio(0.01), .max, parent: true, half) == (true, half))
    #expect(sample(.parentBasedRatio(1), 0, parent: false, half) == (false, half))
    #expect(sample(.parentBasedAlwaysOn, 0, parent: true, "a=1") == (true, "a=1"))
    // Sampled, although the threshold says no; and the other way round.
    #expect(sample(.parentBasedAlwaysOn, 0, parent: true, "a=1,ot=th:8") == (true, "a=1"))
    #expect(sample(.parentBasedAlwaysOn, .max, parent: false, "ot=th:8;p:1") == (false, "ot=p:1"))
    #expect(
      sample(.parentBasedAlwaysOff, 0, parent: true, "ot=th:8;rv:90000000000000")
        == (true, "ot=th:8;rv:90000000000000"))
  }

  @Test func whoDecidesAloneAndNotByChanceSaysSo() {
    #expect(sample(.alwaysOn, 0, parent: false, "ot=th:8,a=1") == (true, "ot=th:0,a=1"))
    #expect(sample(.alwaysOn, 0, parent: false, "a=1") == (true, "a=1"))
    #expect(sample(.alwaysOn, 0) == (true, ""))
    #expect(sample(.alwaysOff, .max, parent: true, "ot=th:8,a=1") == (false, "a=1"))
  }

  @Test func aLowerShareKeepsASubset() {
    var random = Xoshiro256(seed: 5)
    for _ in 0..<5_000 {
      let bits = random.next() & (1 << 56 - 1)
      if sample(.ratio(0.1), bits).isKept { #expect(sample(.ratio(0.4), bits).isKept) }
    }
  }

  @Test func sharesAreKept() {
    var random = Xoshiro256(seed: 11)
    func share(_ sampler: Sampler, parent: Bool?) -> Double {
      var kept = 0
      for _ in 0..<20_000 {
        var state: [UInt8] = []
        if sampler.samples(TraceID(using: &random), parent: parent, state: &state) { kept += 1 }
      }
      return Double(kept) / 20_000
    }
    #expect(abs(share(.ratio(0.25), parent: true) - 0.25) < 0.02)
    #expect(abs(share(.parentBasedRatio(0.25), parent: nil) - 0.25) < 0.02)
    #expect(share(.parentBasedRatio(0.25), parent: true) == 1)
    #expect(share(.parentBasedRatio(0.25), parent: false) == 0)
    #expect(share(.alwaysOff, parent: true) == 0)
    #expect(share(.parentBasedAlwaysOn, parent: nil) == 1)
    #expect(share(.parentBasedAlwaysOff, parent: nil) == 0)
  }

  @Test func settingsNameTheirSamplers() {
    func kept(_ name: String?, _ argument: Double?, _ ratio: Double?, parent: Bool?) -> Bool {
      var state: [UInt8] = []
      return Sampler(named: name, argument: argument, ratio: ratio)
        .samples(trace(1 << 55), parent: parent, state: &state)
    }
    #expect(kept("always_on", nil, nil, parent: false) && !kept("always_off", nil, nil, parent: true))
    #expect(kept("traceidratio", 0.5, nil, parent: false) && !kept("traceidratio", 0.4, nil, parent: true))
    #expect(kept("parentbased_traceidratio", 0, nil, parent: true))
    #expect(!kept("parentbased_always_off", nil, nil, parent: nil) && kept(nil, nil, nil, parent: nil))
    #expect(kept("traceidratio", nil, nil, parent: nil), "the argument is 1 when it is not set")
    #expect(!kept("always_on", nil, 0, parent: nil), "OTEL_TRACES_SAMPLE_RATIO is asked first")
  }
}
