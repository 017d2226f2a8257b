// Workers that register themselves in a folder: who is taken, who is not, and when they go.

import Base
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
    #expect(rig.latest.workers.map(\.id) == [3])
    rig.advance(1_010 * millisecond)
    rig.advance(1_010 * millisecond)
    let notes = rig.lines.lines.filter { $0.contains("is not used") }
    #expect(notes.count == 2)
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
    #expect(rig.lines.lines.filter { $0.contains("cannot read the discovery folder") }.count == 1)
  }
}
