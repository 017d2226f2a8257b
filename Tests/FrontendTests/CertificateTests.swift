// What the frontend says of its own certificate.

import TLS
import TestSupport
import Testing
import Transport

@testable import Frontend

struct CertificateTests {
  private func daysLeft(endsIn seconds: Int) throws -> Int? {
    let authority = try TestAuthority()
    let files = try authority.issue { $0.endsIn = seconds }
    let context = try TLSContext(
      server: TLSIdentity(certificatePath: files.certificate, keyPath: files.key), protocols: ["http/1.1"])
    var configuration = FrontendConfiguration()
    configuration.security = SocketSecurity(context, counters: HandshakeCounters())
    let end = try #require(context.certificateEnd)
    return configuration.certificateDaysLeft(unixSeconds: end - seconds)
  }

  @Test func wholeDaysAreLeftAndAnEndedCertificateHasFewerThanNone() throws {
    #expect(try daysLeft(endsIn: 86_400 * 3) == 3)
    #expect(try daysLeft(endsIn: 86_400 * 3 - 1) == 2)
    #expect(try daysLeft(endsIn: 10) == 0)
    #expect(try daysLeft(endsIn: -1) == -1)
    #expect(FrontendConfiguration().certificateDaysLeft(unixSeconds: 0) == nil)
  }
}
