// TLS to workers: which URLs get it, whose name is verified, and files that cannot be used.

import Base
import EventLoop
import Glibc
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

  @Test func newFilesMakeEveryMemberAnotherToConnectTo() throws {
    let authority = try TestAuthority()
    let rig = try ControlRig {
      $0.urls = ["https://127.0.0.1:8443", "http://127.0.0.1:8000"]
      $0.security.rootsPath = authority.path
    }
    let security = rig.control.security
    rig.turn()
    let before = rig.latest
    // The same ones: nothing is published.
    rig.control.renewSecurity()
    rig.turn()
    #expect(rig.latest.generation == before.generation)
    let old = try #require(before.workers[0].upstream.security)
    let renew = try #require(try security.prepareAnew())
    renew()
    rig.control.renewSecurity()
    rig.turn()
    #expect(rig.latest.generation == before.generation + 1)
    let new = try #require(rig.latest.workers[0].upstream.security)
    #expect(new.context !== old.context && new.serverName == "127.0.0.1")
    #expect(rig.latest.workers[0].upstream.authority == before.workers[0].upstream.authority)
    #expect(rig.latest.workers[1].upstream === before.workers[1].upstream)
    #expect(rig.prober.open.last?.upstream.security?.context === new.context, "it is asked by the new ones")
  }

  @Test func badNewFilesChangeNothing() throws {
    let authority = try TestAuthority()
    var configuration = WorkerSecurityConfiguration()
    configuration.rootsPath = authority.path
    let security = try WorkerSecurity(configuration)
    let url = try parsed("https://a:1")
    let old = try #require(security.security(of: url))
    let file = try #require(fopen(authority.path, "w"))
    fclose(file)
    #expect(throws: TLSError.self) { try security.prepareAnew() }
    #expect(security.security(of: url)?.context === old.context)
    #expect(security.renewed(old) == nil)
    let unused = try WorkerSecurity(WorkerSecurityConfiguration()).prepareAnew()
    #expect(unused == nil, "it is not in use")
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
