// A worker's records in etcd: written under a lease, kept, written again, withdrawn.

import Base
import EventLoop
import TestSupport
import Testing

@testable import Workers

struct EtcdRegistrationTests {
  private final class Rig {
    let kernel = FakeKernel()
    let loop: EventLoop
    let etcd: ScriptedEtcd
    let registration: EtcdRegistration
    let instance = "v1/instances/dynamo/backend/generate/7"
    let card = "v1/mdc/dynamo/backend/generate/7"

    init(servers: Int = 1) throws {
      etcd = ScriptedEtcd(servers: servers)
      loop = try EventLoop(index: 0, system: kernel, seed: 1)
      let identity = DiscoveryIdentity(
        namespace: "dynamo", component: "backend", endpoint: "generate", instanceID: 7)
      var settings = EtcdSettings()
      settings.leaseSeconds = 9
      registration = EtcdRegistration(
        settings, connector: etcd,
        record: DiscoveryRecord(identity, transport: .http("http://127.0.0.1:9001")),
        on: loop, logger: quietLogger)
    }

    deinit {
      registration.close()
      loop.close()
    }

    func settle() { etcd.settle { self.loop.turn(patience: 0) } }

    func advance(_ time: Nanoseconds) {
      kernel.time += time
      settle()
    }

    func register(_ name: String = "m") {
      registration.register(ModelCard(displayName: name))
      settle()
    }

    var paths: [String] { etcd.asked.map(\.path) }
  }

  @Test func bothRecordsAreWrittenInOneStepUnderALease() throws {
    let rig = try Rig()
    rig.register()
    #expect(rig.paths == ["/v3/lease/grant", "/v3/kv/txn"])
    #expect(rig.etcd.asked[0].body["TTL"] as? String == "9")
    #expect(Set(rig.etcd.keys.keys) == [rig.instance, rig.card])
    #expect(rig.etcd.keys.values.allSatisfy { $0.lease == "7001" })
    #expect(!rig.registration.isWithdrawn)
  }

  @Test func theLeaseIsKeptAliveThriceInItsTime() throws {
    let rig = try Rig()
    rig.register()
    for _ in 0..<4 { rig.advance(3_010 * millisecond) }
    #expect(rig.paths.dropFirst(2).elementsEqual(Array(repeating: "/v3/lease/keepalive", count: 4)))
  }

  @Test func aLeaseThatRanOutIsReplaced() throws {
    let rig = try Rig()
    rig.register()
    rig.etcd.expire("7001")
    #expect(rig.etcd.keys.isEmpty)
    rig.advance(3_010 * millisecond)
    #expect(rig.paths.suffix(3) == ["/v3/lease/keepalive", "/v3/lease/grant", "/v3/kv/txn"])
    #expect(rig.etcd.keys[rig.instance]?.lease == "7002")
  }

  @Test func aLeaseThatIsGoneWhenTheCardChangesIsReplacedToo() throws {
    let rig = try Rig()
    rig.register()
    rig.etcd.expire("7001")
    rig.register("n")
    rig.advance(260 * millisecond)
    #expect(rig.etcd.keys[rig.card]?.value.contains("\"n\"") == true)
    #expect(rig.etcd.keys[rig.card]?.lease == "7002")
  }

  @Test func aCardThatChangesIsWrittenUnderTheSameLease() throws {
    let rig = try Rig()
    rig.register()
    rig.register()
    #expect(rig.paths.count == 2)
    rig.register("n")
    #expect(rig.paths.last == "/v3/kv/txn")
    #expect(rig.etcd.keys[rig.card]?.value.contains("\"n\"") == true)
    #expect(rig.etcd.leases == ["7001"])
  }

  @Test func withdrawingGivesTheLeaseUpAndTakesBothRecordsAway() throws {
    let rig = try Rig()
    rig.register()
    rig.registration.withdraw()
    #expect(!rig.registration.isWithdrawn)
    rig.settle()
    #expect(rig.registration.isWithdrawn)
    #expect(rig.etcd.keys.isEmpty && rig.etcd.leases.isEmpty)
    rig.advance(20 * second)
    #expect(rig.paths.last == "/v3/lease/revoke")
    // An engine that comes back is registered anew.
    rig.register()
    #expect(rig.etcd.keys[rig.instance] != nil)
  }

  /// However far the registration got when the worker stops, nothing is left of it.
  @Test(arguments: 0..<4) func withdrawingInTheMiddleLeavesNothing(steps: Int) throws {
    let rig = try Rig()
    rig.registration.register(ModelCard(displayName: "m"))
    for _ in 0..<steps { rig.etcd.step() }
    rig.registration.withdraw()
    rig.settle()
    #expect(rig.registration.isWithdrawn)
    #expect(rig.etcd.keys.isEmpty && rig.etcd.leases.isEmpty)
  }

  @Test func recordsThatSomebodyRemovedAreWrittenAgain() throws {
    let rig = try Rig()
    rig.register()
    rig.etcd.delete([rig.instance, rig.card])
    for _ in 0..<6 { rig.advance(3_010 * millisecond) }
    #expect(Set(rig.etcd.keys.keys) == [rig.instance, rig.card])
    #expect(rig.etcd.keys[rig.instance]?.lease == "7001")
    // One that another holds meanwhile is left to it.
    rig.etcd.put(rig.instance, "other")
    for _ in 0..<6 { rig.advance(3_010 * millisecond) }
    #expect(rig.etcd.keys[rig.instance]?.value == "other")
  }

  @Test func aSilentMemberIsGivenUpWhileTheLeaseLasts() {
    var settings = EtcdSettings()
    for seconds in [2, 10, 60] {
      settings.leaseSeconds = seconds
      // A third until it is kept alive, then two members that are silent.
      #expect(UInt64(seconds) * second / 3 + 2 * settings.silence < UInt64(seconds) * second)
    }
    #expect(settings.silence == 8 * second)
  }

  @Test func aMemberThatFailsIsLeftForTheNext() throws {
    let rig = try Rig(servers: 2)
    rig.register()
    let first = try #require(rig.etcd.asked.first?.server)
    rig.etcd.down = [first]
    rig.advance(3_010 * millisecond)
    #expect(rig.paths.last == "/v3/lease/keepalive")
    rig.advance(260 * millisecond)
    #expect(rig.etcd.asked.last?.server == 1 - first)
    #expect(rig.paths.last == "/v3/lease/keepalive")
    #expect(rig.etcd.leases == ["7001"])
    rig.advance(3_010 * millisecond)
    #expect(rig.etcd.asked.last?.server == 1 - first)
  }

  @Test func aClusterThatIsAwayIsWaitedForAndAWithdrawalGivesUp() throws {
    let rig = try Rig()
    rig.etcd.down = [0]
    rig.register()
    for _ in 0..<5 { rig.advance(9 * second) }
    #expect(rig.paths.allSatisfy { $0 == "/v3/lease/grant" })
    rig.etcd.down = []
    rig.advance(9 * second)
    #expect(rig.etcd.keys.count == 2)
    rig.etcd.down = [0]
    rig.registration.withdraw()
    rig.settle()
    // The lease will run out by itself.
    #expect(rig.registration.isWithdrawn)
    #expect(rig.paths.suffix(3).allSatisfy { $0 == "/v3/lease/revoke" })
  }
}
