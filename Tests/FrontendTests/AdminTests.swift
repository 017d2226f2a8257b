// The admin listener: who may change what, what is answered, and that callers' port has none of it.

import Base
import EventLoop
import Synchronization
import Tenants
import TestSupport
import Testing
import Transport

@testable import Frontend

/// Notes what it is asked for, and answers as it was told.
private final class NotingAdministration: Administration {
  private let state = Mutex<(calls: [String], outcome: AdminOutcome)>(([], .done))
  var calls: [String] { state.withLock { $0.calls } }
  var outcome: AdminOutcome {
    get { state.withLock { $0.outcome } }
    set { state.withLock { $0.outcome = newValue } }
  }

  private func note(_ call: String) { state.withLock { $0.calls.append(call) } }

  func drain(_ worker: UInt64, _ isDraining: Bool, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    note("\(isDraining ? "drain" : "undrain") \(worker)")
    done(outcome)
  }

  func addWorker(_ url: String, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    note("add \(url)")
    done(outcome)
  }

  func removeWorker(_ worker: UInt64, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    note("remove \(worker)")
    done(outcome)
  }

  func reload() { note("reload") }
}

struct AdminTests {
  private static let listener: Int32 = 4

  /// The rig's loop with an admin listener beside that of callers.
  private final class Admin {
    let rig: FrontendRig
    let administration: NotingAdministration?
    let server: HTTPServer
    private var callers: Int32 = 49

    init(token: String? = nil, changes: Bool = true, _ edit: (inout FrontendConfiguration) -> Void = { _ in })
      throws
    {
      rig = try FrontendRig(edit: edit)
      let administration = changes ? NotingAdministration() : nil
      self.administration = administration
      let side = SideListener(
        name: "admin", listeners: [],
        token: token.map { Array($0.utf8).withUnsafeBytes { KeyDigest(of: $0) } },
        administration: administration)
      server = HTTPServer(
        loop: rig.loop, application: AdminApplication(rig.service, side, logger: rig.logger),
        limits: ServerLimits(), loads: LoopLoads(count: 1), counters: ListenerCounters())
      try server.listen(on: AdminTests.listener)
    }

    func ask(_ line: String, _ fields: String = "", body: String = "") -> String {
      callers += 1
      rig.kernel.pendingAccepts[AdminTests.listener, default: []].append(callers)
      rig.kernel.queue([(AdminTests.listener, .readable)])
      rig.turn()
      rig.send(
        "\(line) HTTP/1.1\r\nhost: x\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)",
        on: callers)
      rig.runPool()
      return rig.output(callers)
    }

    deinit { server.cutAll() }
  }

  @Test func changesAreMadeAndAnswered() throws {
    let admin = try Admin()
    let drained = admin.ask("POST /admin/workers/7/drain")
    #expect(drained.status == 200 && drained.contains("{\"worker_id\":7,\"draining\":true}"), "\(drained)")
    #expect(admin.ask("POST /admin/workers/7/undrain").contains("\"draining\":false"))
    let added = admin.ask("POST /admin/workers", body: "{\"url\":\"http://gpu:1\",\"more\":[1]}")
    #expect(added.status == 201 && added.contains("{\"url\":\"http://gpu:1\"}"), "\(added)")
    #expect(admin.ask("DELETE /admin/workers/7").contains("\"removed\":true"))
    #expect(admin.ask("POST /admin/reload").status == 202)
    #expect(
      admin.administration?.calls == ["drain 7", "undrain 7", "add http://gpu:1", "remove 7", "reload"])
    #expect(admin.rig.lines.lines.contains { $0.contains("a worker is drained") })
  }

  @Test(arguments: [
    (AdminOutcome.unknownWorker, 404), (.notStatic, 409), (.refused("it is none"), 400),
  ])
  func whatCannotBeDoneIsSaid(_ outcome: AdminOutcome, _ status: Int) throws {
    let admin = try Admin()
    admin.administration?.outcome = outcome
    let answer = admin.ask("DELETE /admin/workers/7")
    #expect(answer.status == status && answer.contains("\"error\""), "\(answer)")
  }

  @Test(arguments: [
    ("GET /admin/workers/7/drain", 405), ("POST /admin/workers/x/drain", 404), ("POST /admin/workers/7", 405),
    ("POST /admin/workers/7/other", 404), ("POST /admin", 404), ("GET /admin/reload", 405),
    ("POST /v1/chat/completions", 404), ("GET /v1/models", 200), ("GET /health", 200), ("GET /metrics", 200),
    ("GET /v1/router/state", 200), ("POST /health", 405), ("POST /admin/workers", 400),
  ])
  func routes(_ line: String, _ status: Int) throws {
    let admin = try Admin()
    #expect(admin.ask(line).status == status)
    #expect(admin.administration?.calls == [])
  }

  @Test func aTokenIsAskedForOnEverything() throws {
    let admin = try Admin(token: "a-token-of-some-length")
    for fields in ["", "authorization: Bearer wrong\r\n", "x-api-key: a-token-of-some-length\r\n"] {
      for line in ["POST /admin/reload", "GET /health"] {
        let answer = admin.ask(line, fields)
        #expect(answer.status == 401 && answer.contains("www-authenticate: Bearer"))
      }
    }
    #expect(admin.administration?.calls == [])
    let shown = "authorization: Bearer a-token-of-some-length\r\n"
    #expect(
      admin.ask("POST /admin/reload", shown).status == 202 && admin.ask("GET /health", shown).status == 200)
  }

  /// Keys are for callers: who may reach this socket needs none.
  @Test func callersKeysAreNotAskedFor() throws {
    let admin = try Admin {
      $0.keys = KeyRing([TenancyTests.entry("alice", TenancyTests.secret)])
      $0.guardsSystemRoutes = true
    }
    #expect(admin.ask("GET /metrics").status == 200 && admin.ask("GET /v1/router/state").status == 200)
  }

  @Test func callersPortHasNoneOfIt() throws {
    let rig = try FrontendRig()
    for line in ["POST /admin/reload", "POST /admin/workers/1/drain", "DELETE /admin/workers/1"] {
      let caller = rig.connect()
      rig.send("\(line) HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", on: caller)
      #expect(rig.output(caller).status == 404)
    }
  }

  @Test func metricsMoveAway() throws {
    let admin = try Admin(changes: false) { $0.metricsAddress = .tcp(host: "127.0.0.1", port: 0) }
    let caller = admin.rig.connect()
    admin.rig.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", on: caller)
    #expect(admin.rig.output(caller).status == 404)
    #expect(admin.ask("GET /metrics").status == 200 && admin.ask("GET /ready").status == 200)
    #expect(admin.ask("POST /admin/reload").status == 404 && admin.ask("GET /v1/router/state").status == 404)
  }

  @Test func aBodyIsBounded() throws {
    let admin = try Admin()
    let body = "{\"url\":\"" + String(repeating: "x", count: AdminExchange.bodyBytesMax) + "\"}"
    #expect(admin.ask("POST /admin/workers", body: body).status == 413)
    for body in ["{", "[]", "{\"url\":1}", "{\"url\":\"a\"} x"] {
      #expect(admin.ask("POST /admin/workers", body: body).status == 400)
    }
    #expect(admin.administration?.calls == [])
  }
}
