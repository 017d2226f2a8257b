// What `dynamo-bench interference` makes of its rounds.

import Base
import Testing

@testable import dynamo_bench

@Suite struct Interference {
  private func gaps(_ milliseconds: [Double]) -> TokenGaps {
    var histogram = LatencyHistogram()
    for value in milliseconds { histogram.record(UInt64(value * 1e6)) }
    return TokenGaps(histogram)
  }

  @Test func theDifferenceIsTakenWithinEachRound() {
    // A machine that is slow in one round is slow in both halves of it.
    let rounds = [(10.0, 10.5), (30.0, 30.5), (20.0, 20.5)].map {
      InterferenceRound(alone: gaps([$0]), beside: gaps([$1]), prompts: 7)
    }
    let row = InterferenceRunner.table([("frontend", rounds)]).split(separator: "\n")[2]
    let cells = row.split(separator: "|").map { $0.filter { $0 != " " } }
    #expect(cells[0] == "frontend")
    #expect(abs((Double(cells[3]) ?? 0) - 20) < 0.2)
    #expect(abs((Double(cells[5]) ?? 0) - 0.5) < 0.3)
    #expect(cells[6] == "21")
  }

  @Test func aPeerWithoutRoundsHasNoFigures() {
    let row = InterferenceRunner.table([("nginx", [])]).split(separator: "\n")[2]
    #expect(row.filter { $0 == "–" }.count == 5)
  }

  @Test func theCallersFiguresAreReadFromTheirLine() {
    let line = #"{"completed":41,"failed":2,"tokens":41}"#
    #expect(InterferenceRunner.figure("completed", in: line) == 41)
    #expect(InterferenceRunner.figure("failed", in: line) == 2)
    #expect(InterferenceRunner.figure("missing", in: line) == nil)
  }

  @Test func routingByTokensNeedsATokenizer() throws {
    let names = ["nginx", "frontend:kv:tokens"]
    #expect(throws: CompareError.self) { try Peer.parse(names, modelPath: nil) }
    #expect(try Peer.parse(names, modelPath: "/model").map(\.isTokenizing) == [false, true])
    #expect(try Peer.parse(["nginx", "frontend"], modelPath: nil).count == 2)
  }
}
