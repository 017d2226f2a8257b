// Percentiles, /proc lines and the shape of the budgeted workloads.

import Base
import Glibc
import Testing

@testable import dynamo_bench

@Suite struct StatisticsTests {
  @Test func smallValuesAreExact() {
    var histogram = LatencyHistogram()
    for value in 1...100 { histogram.record(UInt64(value)) }
    #expect(histogram.value(at: 0.5) == 50)
    #expect(histogram.value(at: 0.99) == 99)
    #expect(histogram.value(at: 1) == 100)
    #expect(histogram.mean == 50.5)
  }

  @Test func largeValuesAreWithinOnePercent() {
    var random = Xoshiro256(seed: 3)
    for _ in 0..<10_000 {
      let value = random.next() >> UInt64(random.next() % 60)
      let middle = LatencyHistogram.middle(of: LatencyHistogram.bucket(of: value))
      #expect(abs(Double(middle) - Double(value)) <= Double(value) * 0.008)
    }
  }

  @Test func emptyHistogramSaysZero() {
    #expect(LatencyHistogram().value(at: 0.99) == 0)
  }

  @Test func percentileNeverLeavesTheRangeSeen() {
    var histogram = LatencyHistogram()
    histogram.record(1_000_003)
    #expect(histogram.value(at: 0.5) == 1_000_003)
  }

  @Test func medianOfEvenNumberIsBetweenTheMiddleTwo() {
    #expect(median([4, 1, 3, 2]) == 2.5)
    #expect(median([3, 1, 2]) == 2)
    #expect(median([]) == nil)
  }

  @Test func processNameMayHoldBracketsAndBlanks() {
    let line = "812 (a) (b c) S 77 812 812 0 -1 4194560 100 0 0 0 31 42 0 0 20 0 3 0"
    #expect(ProcessStat.parse(Array(line.utf8)) == ProcessStat(parent: 77, userTicks: 31, systemTicks: 42))
    #expect(ProcessStat.parse(Array("812 (short) S 1".utf8)) == nil)
    #expect(ProcessStat.parse([]) == nil)
  }

  @Test func memoryLineIsFoundByItsWholeName() {
    let status = "VmRSSx:\t9 kB\nVmRSS:\t   1234 kB\nVmHWM:\t 2345 kB\n"
    #expect(ProcessTree.kibibytes("VmRSS", in: status) == 1_234)
    #expect(ProcessTree.kibibytes("VmSwap", in: status) == 0)
  }

  @Test func ownProcessTreeHasTimeAndMemory() {
    let tree = ProcessTree(root: getpid())
    #expect(tree.members.first == tree.root)
    #expect(tree.cpuTime.total > 0)
    // The kernel brings the two up to date at different moments, so neither bounds the other.
    #expect(tree.memory.highest > 0 && tree.memory.current > 0)
  }

  @Test func workloadsAreTheBudgetedOnes() {
    #expect(
      Preset.a.workload.connections == 32 && !Preset.a.workload.stream && Preset.a.workload.tokens == 16)
    #expect(Preset.b.workload.connections == 64 && Preset.b.workload.tokens == 128)
    #expect(Preset.c.workload.connections == 256 && Preset.c.workload.tokenGapMilliseconds == 10)
    #expect(Preset.d.workload.promptWords == 8_000 && Preset.d.workload.prefixGroups == 16)
  }

  @Test func numbersAreGroupedForReaders() {
    #expect(grouped(1_234_567) == "1,234,567")
    #expect(grouped(12) == "12")
    #expect(readable(2_345.6) == "2,346")
    #expect(readable(12.34) == "12.3")
  }

  @Test func targetsAreHostsWithPorts() {
    #expect(Target.parse("http://127.0.0.1:8000/") == Target(host: "127.0.0.1", port: 8_000))
    #expect(Target.parse("http://[::1]:8000")?.authority == "[::1]:8000")
    #expect(Target.parse("http://name") == Target(host: "name", port: 80))
    #expect(Target.parse("https://name") == nil)
    #expect(Target.parse("http://name:0") == nil)
    #expect(Target.parse("http://name:80/v1") == nil)
  }

  @Test func peersAreReadFromTheirNames() throws {
    func frontend(_ name: String) throws -> FrontendPeer? {
      if case .frontend(let options) = try Peer.parse(name).kind { return options }
      return nil
    }
    #expect(try frontend("frontend") == FrontendPeer(mode: "kv", traced: true))
    #expect(try frontend("frontend:tokens") == FrontendPeer(mode: "kv", traced: true, tokens: true))
    #expect(
      try frontend("frontend:kv:tokens:untraced") == FrontendPeer(mode: "kv", traced: false, tokens: true))
    #expect(
      try frontend("frontend:round-robin:untraced") == FrontendPeer(mode: "round-robin", traced: false))
    #expect(try frontend("frontend:kv:h2c") == FrontendPeer(mode: "kv", traced: true, multiplexed: true))
    #expect(
      try frontend("frontend:tokens:h2c:untraced")
        == FrontendPeer(mode: "kv", traced: false, tokens: true, multiplexed: true))
    #expect(throws: CompareError.self) { try Peer.parse("nginx:tokens") }
    #expect(try Peer.parse("sglang:cache_aware:traced").isTraced)
    #expect(throws: CompareError.self) { try Peer.parse("nginx:fast") }
    #expect(throws: CompareError.self) { try Peer.parse("envoy") }
  }
}
