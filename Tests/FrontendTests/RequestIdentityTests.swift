// Ids of callers, samplers, verdicts on failures.

import Base
import EventLoop
import HTTP
import OpenAI
import Telemetry
import Testing
import Transport

@testable import Frontend

struct RequestIdentityTests {
  private func isFit(_ text: String) -> Bool {
    Array(text.utf8).withUnsafeBytes { XRequestID.isFit($0) }
  }

  @Test func visibleASCIIUpTo128CharactersIsKept() {
    #expect(isFit("test-trace-001"))
    #expect(isFit(String(repeating: "a", count: 128)))
    #expect(isFit("!~"))
  }

  @Test(arguments: ["", "a b", "a\tb", "é", "a\u{7f}", String(repeating: "a", count: 129)])
  func anythingElseIsReplaced(text: String) {
    #expect(!isFit(text))
  }
}

struct SamplerTests {
  private func share(_ sampler: Sampler, parent: Bool?) -> Double {
    var random = Xoshiro256(seed: 11)
    let kept = (0..<20_000).count { _ in sampler.samples(TraceID(using: &random), parent: parent) }
    return Double(kept) / 20_000
  }

  @Test func ratiosKeepTheirShareAndParentsDecideWhereAsked() {
    #expect(abs(share(.ratio(0.25), parent: true) - 0.25) < 0.02)
    #expect(abs(share(.parentBasedRatio(0.25), parent: nil) - 0.25) < 0.02)
    #expect(share(.parentBasedRatio(0.25), parent: true) == 1)
    #expect(share(.parentBasedRatio(0.25), parent: false) == 0)
    #expect(share(.alwaysOff, parent: true) == 0)
    #expect(share(.parentBasedAlwaysOn, parent: nil) == 1)
    #expect(share(.parentBasedAlwaysOff, parent: nil) == 0)
  }

  @Test func aLowerRatioKeepsASubset() {
    var random = Xoshiro256(seed: 5)
    for _ in 0..<5_000 {
      let trace = TraceID(using: &random)
      if Sampler.ratio(0.1).samples(trace, parent: nil) {
        #expect(Sampler.ratio(0.4).samples(trace, parent: nil))
      }
    }
  }
}

struct FailureVerdictTests {
  @Test func eachFailureHasItsStatusOutcomeAndNextStep() {
    let refused = FailureVerdict(.connect(.system(SystemError("connect", 111))))
    #expect(refused.error.status == 502 && refused.mayRetry && refused.outcome == .connectionFailed)
    let silent = FailureVerdict(.silent)
    #expect(silent.error.status == 504 && !silent.mayRetry && silent.outcome == .timeout)
    let broken = FailureVerdict(.broken)
    #expect(broken.error.status == 502 && broken.mayRetry && broken.outcome == .workerDisconnected)
    let malformed = FailureVerdict(.malformed(.malformedStatusLine))
    #expect(malformed.error.status == 502 && !malformed.mayRetry)
  }
}
