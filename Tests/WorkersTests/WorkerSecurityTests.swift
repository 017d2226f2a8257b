// TLS to workers: which URLs get it, whose name is verified, and files that cannot be used.

import Base
import EventLoop
import Logging
import TLS
import Telemetry
import TestSupport
import Testing
import Transport

@testable import Workers

struct WorkerSecurityTests {
  private func parsed(_ text: String) throws -> WorkerURL { try WorkerURL.parse(text).get() }

  @Test func plainTextStartsNothing() throws {
    let security = try WorkerSecurity(WorkerSecurityConfiguration())
    #expect(!security.isInUse)
    #expect(try security.security(of: parsed("http://a:1")) == nil)
    try security.prepare()
    #expect(security.isInUse)
    #expect(try security.security(of: parsed("http://a:1")) == nil)
  }

  @Test func theHostOfTheURLIsVerifiedAndForAddressesOfANameTheName() throws {
    let security = try WorkerSecurity(WorkerSecurityConfiguration())
    try security.prepare()
    let named = try parsed("dns+https://Engines.test:8443")
    #expect(security.security(of: named)?.serverName == "engines.test")
    let address = try #require(SocketAddress.resolve(host: "127.0.0.2", port: 8443).first)
    let worker = named.worker(at: address)
    #expect(worker.isSecure && worker.text == "https://127.0.0.2:8443")
    #expect(security.security(of: worker, name: named.host)?.serverName == "engines.test")
    #expect(try security.security(of: parsed("https://[::1]:1"))?.serverName == "::1")
  }

  @Test func aMemberIsSpokenToOverTLS() throws {
    let authority = try TestAuthority()
    let rig = try ControlRig {
      $0.urls = ["https://127.0.0.1:8443", "http://127.0.0.1:8000"]
      $0.security.rootsPath = authority.path
    }
    #expect(rig.prober.all.map { $0.upstream.security?.serverName } == ["127.0.0.1", nil])
  }

  @Test func filesThatCannotBeUsedAreNamedAtStart() throws {
    var configuration = WorkerDirectoryConfiguration()
    configuration.security.rootsPath = "/no/such"
    do throws(WorkerDirectoryError) {
      _ = try WorkerDirectory(
        configuration: configuration, logger: quietLogger, registry: MetricRegistry())
      Issue.record("the file was taken")
    } catch {
      #expect(error.description == "TLS to workers: /no/such: No such file or directory")
    }
  }

  @Test func everyOutcomeIsASeries() throws {
    let registry = MetricRegistry()
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = ["https://127.0.0.1:1"]
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: registry)
    var page = ByteBuffer()
    registry.writePrometheus(into: &page)
    let lines = page.text.split(separator: "\n").filter {
      $0.hasPrefix("dynamo_frontend_tls_handshakes_total")
    }
    #expect(lines.count == HandshakeCounters().outcomes.count)
    #expect(lines.contains("dynamo_frontend_tls_handshakes_total{peer=\"worker\",outcome=\"ok\"} 0"))
    withExtendedLifetime(directory) {}
  }
}
