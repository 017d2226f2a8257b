// Workers found in etcd: who is taken, and what outages, compaction and ended tokens do to them.

import Base
import EventLoop
import Foundation
import TestSupport
import Testing

@testable import Workers

struct EtcdSourceTests {
  private func rig(
    _ etcd: ScriptedEtcd, user: (String, String)? = nil
  ) throws -> ControlRig {
    var settings = EtcdSettings()
    settings.endpoints = (0..<etcd.serverCount).map { "http://etcd-\($0):2379" }
    (settings.username, settings.password) = (user?.0, user?.1)
    let rig = try ControlRig(source: { loop in
      EtcdSource(EtcdClient(settings, connector: etcd, first: 0), on: loop)
    })
    etcd.settle { rig.turn() }
    return rig
  }

  private func ids(_ rig: ControlRig) -> [UInt64] { rig.latest.workers.map(\.id).sorted() }

  private func warnings(_ rig: ControlRig) -> [String] {
    rig.lines.lines.filter { $0.contains("discovery cannot be read") }
  }

  @Test func workersThatAreThereAreReadAndLaterOnesSeen() throws {
    let etcd = ScriptedEtcd()
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd)
    #expect(rig.state() == "ready")
    #expect(rig.latest.workers[0].source.label == "etcd")
    #expect(rig.latest.workers[0].blockSize == 32)
    etcd.register(2, port: 9_002)
    rig.turn()
    #expect(ids(rig) == [1, 2])
    etcd.withdraw(1)
    rig.turn()
    #expect(ids(rig) == [2])
    #expect(etcd.asked.map(\.path) == ["/v3/kv/range", "/v3/watch"])
  }

  @Test func aFleetIsReadInPages() throws {
    let etcd = ScriptedEtcd()
    for id in 1...700 { etcd.register(UInt64(id), port: 10_000 + id) }
    let rig = try rig(etcd)
    #expect(rig.latest.workers.count == 700)
    #expect(etcd.asked.map(\.path) == ["/v3/kv/range", "/v3/kv/range", "/v3/kv/range", "/v3/watch"])
    // All pages show the store as it was at the first.
    #expect(etcd.asked[1].body["revision"] as? String == etcd.asked[2].body["revision"] as? String)
  }

  @Test func aRecordThatWasOfNoUseIsLookedAtAgainThoughNothingChangedInEtcd() throws {
    let etcd = ScriptedEtcd()
    let rig = try rig(etcd)
    let url = try WorkerURL.parse("http://127.0.0.1:9001").get()
    rig.control.adopt(fixed: [url])
    rig.turn()
    etcd.register(1, port: 9_001)
    rig.turn()
    #expect(rig.latest.workers.map(\.source.label) == ["static"])
    #expect(rig.latest.unused.shown.map(\.reason) == ["its URL is configured as a static worker"])
    rig.control.adopt(fixed: [])
    rig.turn()
    rig.advance(5 * second)
    #expect(ids(rig) == [1] && rig.latest.workers[0].source.label == "etcd")
    #expect(rig.latest.unused.count == 0)
  }

  @Test func aCardThatIsNotThereYetIsWaitedFor() throws {
    let etcd = ScriptedEtcd()
    etcd.register(1, port: 9_001)
    etcd.delete(["v1/mdc/dynamo/backend/generate/1"])
    let rig = try rig(etcd)
    #expect(rig.latest.workers.isEmpty)
    etcd.register(1, port: 9_001)
    rig.turn()
    #expect(ids(rig) == [1])
  }

  @Test func compactionIsReadAgainAtOnceAndIsNoOutage() throws {
    let etcd = ScriptedEtcd()
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd)
    etcd.compact(endingWatches: true)
    etcd.register(2, port: 9_002)
    etcd.withdraw(1)
    etcd.settle { rig.turn() }
    #expect(ids(rig) == [2])
    #expect(etcd.watchCount == 1)
    #expect(warnings(rig).isEmpty)
  }

  @Test func anotherMemberTakesOverAndTheWorkersStay() throws {
    let etcd = ScriptedEtcd(servers: 2)
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd)
    etcd.down = [0]
    etcd.breakWatches()
    etcd.settle { rig.turn() }
    #expect(ids(rig) == [1])
    #expect(warnings(rig).count == 1)
    rig.advance(260 * millisecond)
    etcd.settle { rig.turn() }
    #expect(etcd.asked.last?.path == "/v3/watch")
    #expect(etcd.asked.last?.server == 1)
    etcd.register(2, port: 9_002)
    rig.turn()
    #expect(ids(rig) == [1, 2])
    #expect(rig.lines.lines.contains { $0.contains("discovery can be read again") })
  }

  @Test func inAnOutageAWorkerStaysUntilItsPortRefuses() throws {
    let etcd = ScriptedEtcd()
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd)
    rig.answer("m")
    etcd.down = [0]
    etcd.breakWatches()
    for _ in 0..<10 {
      rig.advance(2 * second)
      etcd.settle { rig.turn() }
    }
    // Nobody keeps its record, so it was asked; it answers, and stays.
    #expect(rig.prober.open.count == 1)
    rig.answer("m")
    #expect(rig.state() == "ready")
    // How it was lost, and why it does not come back: each is said once.
    #expect(warnings(rig).count == 2)
    rig.advance(40 * second)
    etcd.settle { rig.turn() }
    rig.refuse()
    #expect(rig.latest.workers.isEmpty)
    // Its lease still lives when etcd is back: it is taken again, and asked again.
    etcd.down = []
    rig.advance(9 * second)
    etcd.settle { rig.turn() }
    #expect(ids(rig) == [1])
    #expect(rig.prober.open.count == 1)
  }

  @Test func aMemberThatIsSilentIsNoticedByItsSignOfLife() throws {
    let etcd = ScriptedEtcd(servers: 2)
    let rig = try rig(etcd)
    rig.advance(6 * second)
    etcd.settle { rig.turn() }
    #expect(etcd.asked.last?.body["count_only"] as? Bool == true)
    #expect(warnings(rig).isEmpty)
    // The watch says nothing, and is given up all the same.
    etcd.down = [0]
    rig.advance(6 * second)
    etcd.settle { rig.turn() }
    #expect(warnings(rig).count == 1)
    #expect(etcd.watchCount == 0)
    rig.advance(second)
    etcd.settle { rig.turn() }
    #expect(etcd.asked.last?.server == 1)
    #expect(etcd.watchCount == 1)
  }

  @Test func aWatchIsBegunAnewEachMinuteFromItsLastChange() throws {
    let etcd = ScriptedEtcd()
    let rig = try rig(etcd)
    etcd.register(1, port: 9_001)
    rig.turn()
    for _ in 0..<11 {
      rig.advance(6 * second)
      etcd.settle { rig.turn() }
    }
    let watches = etcd.asked.filter { $0.path == "/v3/watch" }
    #expect(watches.count == 2 && etcd.watchCount == 1)
    func start(_ index: Int) -> String? {
      (watches[index].body["create_request"] as? [String: Any])?["start_revision"] as? String
    }
    // Two records were written since the first.
    #expect(start(0) == "2" && start(1) == "4")
    #expect(ids(rig) == [1] && warnings(rig).isEmpty)
    etcd.withdraw(1)
    rig.turn()
    #expect(ids(rig).isEmpty)
  }

  @Test func aTokenIsFetchedAndRenewedWhenItEnds() throws {
    let etcd = ScriptedEtcd()
    etcd.user = ("frontend", "pass\"word")
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd, user: ("frontend", "pass\"word"))
    #expect(ids(rig) == [1])
    #expect(etcd.asked.map(\.path) == ["/v3/auth/authenticate", "/v3/kv/range", "/v3/watch"])
    etcd.endTokens()
    rig.advance(6 * second)
    etcd.settle { rig.turn() }
    #expect(etcd.asked.map(\.path).suffix(3) == ["/v3/kv/range", "/v3/auth/authenticate", "/v3/kv/range"])
    #expect(warnings(rig).isEmpty)
  }

  @Test func aWrongPasswordIsSaidOnceAndTriedAgainLater() throws {
    let etcd = ScriptedEtcd()
    etcd.user = ("frontend", "right")
    let rig = try rig(etcd, user: ("frontend", "wrong"))
    for _ in 0..<3 {
      rig.advance(9 * second)
      etcd.settle { rig.turn() }
    }
    #expect(warnings(rig).count == 1)
    #expect(warnings(rig).first?.contains("authentication failed") == true)
    #expect(etcd.asked.count == 4)
    #expect(etcd.asked.allSatisfy { $0.path == "/v3/auth/authenticate" })
  }

  @Test func recordsOfDynamoItselfAreListedAndNeverChosen() throws {
    let etcd = ScriptedEtcd()
    etcd.put(
      "v1/instances/dynamo/backend/generate/d94d98147d54be25",
      "{\"type\":\"Endpoint\",\"component\":\"backend\",\"endpoint\":\"generate\",\"namespace\":\"dynamo\",\"instance_id\":15658734567890123301,\"transport\":{\"tcp\":\"10.0.0.7:41001/x\"}}"
    )
    etcd.put("v1/instances/dynamo/backend/generate/2", "no record")
    etcd.put("v1/instances/odd", "{}")
    etcd.put("v1/kv_routers/x/y/z/1", "{}")
    let rig = try rig(etcd)
    #expect(rig.latest.workers.isEmpty)
    #expect(
      rig.latest.unused.shown.map(\.key) == [
        "v1/instances/dynamo/backend/generate/2", "v1/instances/dynamo/backend/generate/d94d98147d54be25",
      ])
    #expect(rig.latest.unused.shown.last?.reason == "its transport 'tcp' is not spoken here")
  }

  @Test(arguments: ["{", "[]", "{\"unknown\":1}", "{\"error\":{\"message\":\"etcdserver: no leader\"}}"])
  func whatIsNoMessageOfAWatchEndsItAndAllIsReadAnew(text: String) throws {
    let etcd = ScriptedEtcd()
    etcd.register(1, port: 9_001)
    let rig = try rig(etcd)
    etcd.say(text)
    #expect(warnings(rig).count == 1)
    #expect(etcd.watchCount == 0)
    rig.advance(second)
    etcd.settle { rig.turn() }
    #expect(etcd.watchCount == 1)
    #expect(ids(rig) == [1])
  }

  @Test func nothingIsHeardAfterItIsClosed() throws {
    let etcd = ScriptedEtcd()
    let rig = try rig(etcd)
    let count = rig.sets.count
    rig.control.close()
    #expect(etcd.isClosed)
    etcd.register(1, port: 9_001)
    rig.turn()
    #expect(rig.sets.count == count)
  }

  @Test func aTableHoldsSoManyRecordsAndNoMore() {
    var table = RecordTable()
    for index in 0..<(RecordTable.recordsMax + 3) {
      table.put("v1/instances/n/c/e/\(String(index + 1, radix: 16))", Array("x".utf8))
    }
    #expect(table.leftOut == 3)
    #expect(table.scan(touched: 0).unusable.count == RecordTable.recordsMax)
    // One that is known is still replaced.
    table.put("v1/instances/n/c/e/1", [UInt8](repeating: 0x20, count: RecordTable.valueBytesMax + 1))
    #expect(table.leftOut == 3)
    #expect(table.scan(touched: 0).unusable["v1/instances/n/c/e/1"] == "its record is too long")
    table.remove("v1/instances/n/c/e/1")
    table.put("v1/instances/n/c/e/ffff", Array("x".utf8))
    #expect(table.leftOut == 3)
  }

  @Test func settingsThatCannotBeAreSaid() {
    func faults(_ environment: [String: String]) -> [String] {
      EtcdSettings(environment: environment).faults()
    }
    #expect(
      EtcdSettings(environment: ["ETCD_ENDPOINTS": "a:1, https://b:2 "]).endpoints == [
        "http://a:1", "https://b:2",
      ])
    #expect(faults([:]).isEmpty)
    #expect(faults(["ETCD_ENDPOINTS": ","]).count == 1)
    #expect(faults(["ETCD_ENDPOINTS": "h2c://a:1"]).count == 1)
    #expect(faults(["ETCD_AUTH_USERNAME": "u"]).count == 1)
    #expect(faults(["ETCD_AUTH_CLIENT_KEY": "k"]).count == 1)
    #expect(faults(["ETCD_ENDPOINTS": "https://a:1", "ETCD_AUTH_CA": "/nowhere.pem"]).count == 1)
  }
}
