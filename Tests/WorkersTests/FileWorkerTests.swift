// Workers that register themselves in a folder: who is taken, who is not, and when they go.

import Base
import EventLoop
import Foundation
import TestSupport
import OpenAI
import Testing

@testable import Workers

struct FileWorkerTests {
  /// A folder that is gone with the test, and the registrations in it.
  private final class Store {
    let path = NSTemporaryDirectory() + "store-\(UInt64.random(in: 0...UInt64.max))"
    var folder: DiscoveryFolder { DiscoveryFolder(explicit: path) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func register(
      _ id: UInt64 = 7, _ transport: DiscoveryTransport = .http("http://127.0.0.1:9001"),
      namespace: String = "dynamo",
      edit: (inout ModelCard) -> Void = { _ in }
    ) throws -> FileRegistration {
      var card = ModelCard(displayName: "m")
      card.blockSize = 32
      card.totalBlocks = 500
      edit(&card)
      let identity = DiscoveryIdentity(
        namespace: namespace, component: "backend", endpoint: "generate", instanceID: id)
      let registration = FileRegistration(
        folder: folder, record: DiscoveryRecord(identity, transport: transport), card: card)
      try registration.register()
      return registration
    }
  }

  private func rig(
    _ store: Store, edit: (inout WorkerDirectoryConfiguration) -> Void = { _ in }
  ) throws -> ControlRig {
    try ControlRig { configuration in
      configuration.discoveryFolder = store.folder
      edit(&configuration)
    }
  }

  @Test func aRegisteredWorkerIsReadyBeforeItIsProbed() throws {
    let store = Store()
    _ = try store.register()
    let rig = try rig(store)
    #expect(rig.state() == "ready")
    let worker = rig.latest.workers[0]
    #expect(worker.id == 7)
    #expect(worker.blockSize == 32)
    #expect(worker.totalBlocks == 500)
    #expect(worker.isDynamoWorker)
    #expect(worker.models == ["m"])
    #expect(rig.prober.open.count == 1)
    #expect(rig.prober.open.first?.questions.cache == false)
  }

  @Test func aWorkerThatComesLaterIsSeenWithinASecond() throws {
    let store = Store()
    let rig = try rig(store)
    #expect(rig.latest.workers.isEmpty)
    _ = try store.register()
    rig.advance(1_010 * millisecond)
    #expect(rig.state() == "ready")
  }

  @Test func aWithdrawnWorkerGoesAtOnceAndItsModelIsRemembered() throws {
    let store = Store()
    let registration = try store.register()
    let rig = try rig(store)
    registration.withdraw()
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.isEmpty)
    #expect(rig.latest.models.map(\.name) == ["m"])
    #expect(rig.prober.forgotten == [7])
    #expect(rig.lines.lines.last?.contains("worker is gone") == true)
  }

  @Test func aTouchedRecordMakesNoNewSnapshot() throws {
    let store = Store()
    let registration = try store.register()
    let rig = try rig(store)
    let count = rig.sets.count
    try registration.touch()
    rig.advance(1_010 * millisecond)
    #expect(rig.sets.count == count)
  }

  @Test func aStaleRecordWhosePortRefusesIsDropped() throws {
    let store = Store()
    _ = try store.register()
    let rig = try rig(store)
    rig.answer("m")
    rig.advance(11 * second)
    #expect(rig.state() == "ready")
    rig.refuse()
    #expect(rig.latest.workers.isEmpty)
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.isEmpty)
    #expect(rig.prober.open.isEmpty)
  }

  @Test func aStaleRecordWhoseOwnerAnswersIsKept() throws {
    let store = Store()
    _ = try store.register()
    let rig = try rig(store)
    rig.answer("m")
    rig.advance(11 * second)
    rig.answer("m")
    #expect(rig.state() == "ready")
    rig.advance(1_010 * millisecond)
    #expect(rig.prober.open.isEmpty)
  }

  @Test func aRefusedWorkerIsDroppedWhenItsRecordGoesStale() throws {
    let store = Store()
    _ = try store.register()
    let rig = try rig(store)
    rig.refuse()
    #expect(rig.state() == "connect: Connection refused")
    rig.kernel.wall += 10 * second
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.isEmpty)
  }

  @Test func anOldRecordIsNotTrustedBeforeItsOwnerAnswers() throws {
    let store = Store()
    _ = try store.register()
    try setAge(of: store, seconds: 60)
    let rig = try rig(store)
    #expect(rig.state() == "unprobed")
    rig.answer("m")
    #expect(rig.state() == "ready")
  }

  @Test func aDroppedRecordReturnsWhenItIsTouchedAgain() throws {
    let store = Store()
    let registration = try store.register()
    try setAge(of: store, seconds: 60)
    let rig = try rig(store)
    rig.refuse()
    #expect(rig.latest.workers.isEmpty)
    try registration.touch()
    rig.advance(1_010 * millisecond)
    #expect(rig.state() == "ready")
  }

  private func setAge(of store: Store, seconds: Double) throws {
    for kind in ["instances", "mdc"] {
      try FileManager.default.setAttributes(
        [.modificationDate: Date().addingTimeInterval(-seconds)],
        ofItemAtPath: "\(store.path)/v1/\(kind)/dynamo/backend/generate/7")
    }
  }

  @Test func whatCannotBeSpokenToIsToldOnceAndNeverChosen() throws {
    let store = Store()
    _ = try store.register(1, .foreign("nats_tcp"))
    _ = try store.register(2) { $0.role = .prefill }
    _ = try store.register(3) { $0.endpoints = [.init(.embeddings)] }
    let rig = try rig(store)
    // One that only prefills is known, and never given a whole request.
    #expect(rig.latest.workers.map(\.id) == [2, 3])
    #expect(rig.latest.models[0].workers.map(\.id) == [3])
    #expect(rig.latest.models[0].prefill?.workers.map(\.id) == [2])
    rig.advance(1_010 * millisecond)
    rig.advance(1_010 * millisecond)
    let notes = rig.lines.lines.filter { $0.contains("is not used") }
    #expect(notes.count == 1)
    #expect(notes.contains { $0.contains("nats_tcp") })
  }

  @Test func filtersKeepOtherWorkersOut() throws {
    let store = Store()
    _ = try store.register(1, namespace: "blue")
    _ = try store.register(2, namespace: "green-a")
    _ = try store.register(3, namespace: "green-b") { $0.displayName = "other" }
    #expect(try rig(store) { $0.namespace = "blue" }.latest.workers.map(\.id) == [1])
    #expect(try rig(store) { $0.namespacePrefix = "green" }.latest.workers.map(\.id) == [2, 3])
    #expect(try rig(store) { $0.modelName = "other" }.latest.workers.map(\.id) == [3])
  }

  @Test func aRecordUnderAnotherNameIsNotBelieved() throws {
    let store = Store()
    _ = try store.register(7)
    for kind in ["instances", "mdc"] {
      let folder = "\(store.path)/v1/\(kind)/dynamo/backend/generate"
      try FileManager.default.copyItem(atPath: "\(folder)/7", toPath: "\(folder)/8")
    }
    let rig = try rig(store)
    #expect(rig.latest.workers.map(\.id) == [7])
    #expect(rig.lines.lines.contains { $0.contains("names another instance") })
  }

  @Test func aConfiguredWorkerIsNotCountedTwice() throws {
    let store = Store()
    _ = try store.register()
    let rig = try rig(store) { $0.urls = ["http://127.0.0.1:9001"] }
    #expect(rig.latest.workers.map(\.source.label) == ["static"])
  }

  @Test func aWorkerThatMovedIsAnotherConnection() throws {
    let store = Store()
    let registration = try store.register()
    let rig = try rig(store)
    registration.withdraw()
    _ = try store.register(7, .http("http://127.0.0.1:9002")) { $0.displayName = "n" }
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.map(\.url) == ["http://127.0.0.1:9002"])
    #expect(rig.latest.workers.map(\.models) == [["n"]])
    #expect(rig.latest.models.map(\.name) == ["m", "n"])
  }

  @Test func aFolderThatOthersCanWriteIsNotRead() throws {
    let store = Store()
    _ = try store.register()
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: store.path)
    let rig = try rig(store)
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.isEmpty)
    #expect(rig.lines.lines.filter { $0.contains("discovery cannot be read") }.count == 1)
  }

  /// What the kernel would tell by now.
  private func tell(_ rig: ControlRig) throws {
    let watch = try #require(rig.folderWatch)
    rig.kernel.queue([(watch.descriptor, .readable)])
    rig.turn()
  }

  @Test func aChangeThatTheKernelTellsOfIsSeenWithinMilliseconds() throws {
    let store = Store()
    let first = try store.register(1)
    let rig = try rig(store)
    rig.advance(30 * millisecond)
    _ = try store.register(2, .http("http://127.0.0.1:9002"))
    first.withdraw()
    try tell(rig)
    #expect(rig.latest.workers.map(\.id) == [1])
    rig.advance(30 * millisecond)
    #expect(rig.latest.workers.map(\.id) == [2])
  }

  @Test func aStormOfChangesIsOneScan() throws {
    let store = Store()
    let rig = try rig(store)
    rig.advance(30 * millisecond)
    _ = try store.register(1)
    try tell(rig)
    rig.advance(15 * millisecond)
    try tell(rig)
    #expect(rig.latest.workers.isEmpty)
    rig.advance(10 * millisecond)
    #expect(rig.latest.workers.map(\.id) == [1])
  }

  @Test func whatLiesInANewFolderIsSeenThoughNobodyToldOfIt() throws {
    let store = Store()
    let rig = try rig(store)
    rig.advance(30 * millisecond)
    try FileManager.default.createDirectory(atPath: store.path + "/v1", withIntermediateDirectories: true)
    try tell(rig)
    rig.advance(30 * millisecond)
    // The folders below came before anybody watched them; the scan that finds them is followed by another.
    _ = try store.register(1)
    rig.advance(30 * millisecond)
    #expect(rig.latest.workers.map(\.id) == [1])
  }

  /// A record as Dynamo writes it: one file in `v1/instances`, slashes escaped, an id of 64 bits.
  private func writeForeign(_ store: Store, _ name: String, _ content: String) throws {
    let folder = store.path + "/v1/instances"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data(content.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
  }

  @Test func recordsOfDynamoItselfAreListedAndNeverChosen() throws {
    let store = Store()
    _ = try store.register(1)
    try writeForeign(
      store, "dynamo%2Fbackend%2Fgenerate%2Fd94d98147d54be25",
      """
      {"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"dynamo",
      "instance_id":15658734567890123301,"transport":{"tcp":"10.0.0.7:41001/d94d98147d54be25/generate"}}
      """)
    try writeForeign(store, "dynamo%2Fprefill%2Fgenerate%2F1a", "no JSON")
    try writeForeign(store, ".tmp_00%2F", "a draft")
    try writeForeign(store, "only%2Ftwo", "{}")
    try writeForeign(store, "a%2Fb%2Fc%2", "{}")
    try writeForeign(store, "a%2Fb%2F..%2Fd", "{}")
    let rig = try rig(store)
    #expect(rig.latest.workers.map(\.id) == [1])
    #expect(
      rig.latest.unused.shown == [
        UnusedRecord(
          key: "v1/instances/dynamo/backend/generate/d94d98147d54be25",
          reason: "its transport 'tcp' is not spoken here"),
        UnusedRecord(
          key: "v1/instances/dynamo/prefill/generate/1a", reason: "it was registered by another program"),
      ])
    #expect(rig.latest.models.flatMap { $0.workers.map(\.facts.id) } == [1])
    // Nobody touches them any more.
    let count = rig.sets.count
    rig.kernel.wall += 11 * second
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.unused.count == 0)
    #expect(rig.sets.count == count + 1)
  }

  @Test func unusedRecordsAreShownUpToABound() {
    var reasons: [String: String] = [:]
    for index in 0..<300 { reasons["v1/instances/n/c/e/\(1_000 + index)"] = "why" }
    let records = UnusedRecords(reasons)
    #expect(records.count == 300)
    #expect(records.shown.count == UnusedRecords.shownMax)
    #expect(records.shown.first?.key == "v1/instances/n/c/e/1000")
  }

  @Test func adaptersOfARegisteredWorkerAreModelsOfTheirOwn() throws {
    let store = Store()
    let registration = try store.register()
    let rig = try rig(store)
    var answer = ProbeAnswer(models: ["m", "other", "m-lora"])
    answer.adapters = ["m-lora"]
    rig.end(.success(answer))
    #expect(rig.latest.models.map(\.name) == ["m", "m-lora"])
    #expect(rig.latest.models.map(\.isAdapter) == [false, true])
    // A new card says nothing of them, and takes none away.
    registration.withdraw()
    _ = try store.register { $0.totalBlocks = 600 }
    rig.advance(1_010 * millisecond)
    #expect(rig.latest.workers.map(\.models) == [["m", "m-lora"]])
    // Unloaded.
    rig.advance(40 * second)
    rig.prober.open.last?.end(.success(ProbeAnswer(models: ["m"])))
    rig.turn()
    #expect(rig.latest.workers.map(\.models) == [["m"]])
  }
}
