// Ids of callers, verdicts on failures.

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
