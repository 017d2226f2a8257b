// Spans that outlive an outage and a restart on disk: written, replayed, bounded, torn, shared.

import Base
import EventLoop
import GRPC
import Glibc
import HTTP
import Telemetry
import TestSupport
import Testing

@testable import Exporter

/// A folder of its own that goes with the test.
private final class Folder {
  let path: String

  init() throws {
    var template = Array("/tmp/spool-test-XXXXXX".utf8CString)
    path = try #require(mkdtemp(&template).map { String(cString: $0) })
  }

  deinit { removeAll(path) }

  private func removeAll(_ path: String) {
    for name in entries(path) {
      let inner = "\(path)/\(name)"
      if unlink(inner) != 0 { removeAll(inner) }
    }
    rmdir(path)
  }

  /// The files of the service in one slot.
  func files(_ slot: String = "test") -> [String] { entries("\(path)/\(slot)").sorted() }

  private func entries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  func read(_ name: String) -> [UInt8] {
    let descriptor = open("\(path)/\(name)", O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    return Array(bytes[..<max(0, Glibc.read(descriptor, &bytes, bytes.count))])
  }

  func write(_ name: String, _ bytes: [UInt8]) {
    let descriptor = open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    _ = Glibc.write(descriptor, bytes, bytes.count)
    close(descriptor)
  }
}

private func rig(_ folder: Folder, _ change: (inout ExporterConfiguration) -> Void = { _ in }) throws -> Rig {
  try Rig.spooling(to: folder.path, change)
}

/// Leaves `spans` in files of 100, as a process does that ends in an outage.
private func leave(_ spans: Int, in folder: Folder) throws {
  let rig = try rig(folder) { $0.message.spansMax = 100 }
  rig.publish(spans)
  rig.driver.finish()
}

/// The books with the spool in them.
private func expectBalanced(_ rig: Rig, sourceLocation: SourceLocation = #_sourceLocation) {
  let ledger = rig.ledger
  #expect(
    ledger.made + ledger.recovered == ledger.sent + ledger.dropped + ledger.spooled,
    sourceLocation: sourceLocation)
}

struct ExportSpoolTests {
  @Test func outageGoesToDiskAndIsReplayedOldestFirst() throws {
    let folder = try Folder()
    let rig = try rig(folder)
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 100)
    for count in [512, 513, 514] {
      rig.publish(count)
      try rig.pass(20 * second)
    }
    #expect(rig.ledger.spooled == 512 + 513 + 514)
    #expect(rig.ledger.dropped == 0)
    #expect(folder.files().count == 3)
    expectBalanced(rig)
    rig.connectErrors = []
    try rig.pass(30 * second)
    #expect(rig.messages == [512, 513, 514])
    #expect(rig.ledger.sent == 1_539)
    #expect(rig.ledger.spooled == 0)
    #expect(folder.files().isEmpty)
    #expect(rig.state.spoolBytes == 0)
    expectBalanced(rig)
  }

  @Test func whatAProcessLeavesIsSentByTheNext() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.connectErrors = Array(repeating: ECONNREFUSED, count: 100)
    first.publish(512)
    try first.settle()
    first.publish(30)
    first.driver.flush(within: 5 * second)
    try first.settle()
    #expect(first.isFinished)
    #expect(first.ledger.spooled == 542)
    #expect(first.ledger.dropped == 0)
    #expect(first.lines.all.last?.contains("spooled=542") == true)
    expectBalanced(first)

    let second = try rig(folder)
    #expect(second.ledger.recovered == 542)
    second.publish(5)
    try second.pass(2 * Base.second)
    #expect(second.ledger.sent == 547)
    #expect(second.ledger.made == 5)
    #expect(folder.files().isEmpty)
    expectBalanced(second)
  }

  @Test func resendsAreCountedAcrossARestart() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.answers = [.status(.unavailable)]
    first.publish(512)
    try first.settle()
    first.driver.finish()
    #expect(first.calls == 1)
    let second = try rig(folder)
    second.driver.pump()
    try second.settle()
    #expect(second.ledger.sent == 512)
    #expect(second.state.spansResent == 512)
    expectBalanced(second)
  }

  @Test(arguments: [true, false])
  func fileGoesOnlyWithAFinalStatus(isAccepted: Bool) throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.publish(100)
    first.driver.finish()
    let second = try rig(folder)
    second.answers = [
      .status(.unavailable), .status(.deadlineExceeded),
      isAccepted ? .partial(rejected: 10, "") : .status(.internalError),
    ]
    second.driver.pump()
    try second.settle()
    #expect(folder.files().count == 1)
    #expect(second.ledger.spooled == 100)
    expectBalanced(second)
    try second.pass(4 * Base.second)
    #expect(folder.files().isEmpty)
    #expect(second.ledger.sent == (isAccepted ? 90 : 0))
    #expect(second.ledger.dropped(.rejected) == (isAccepted ? 10 : 100))
    expectBalanced(second)
  }

  @Test func busyQueueSpillsInsteadOfOverflowing() throws {
    let folder = try Folder()
    let rig = try rig(folder) { configuration in
      configuration.queue.spansMax = 4_000
      configuration.message.spansMax = 500
      configuration.retry.total = 60 * second
    }
    rig.answers = [.stall]
    for _ in 0..<40 {
      rig.publish(500)
      try rig.settle()
    }
    #expect(rig.calls == 1)
    #expect(rig.ledger.dropped == 0)
    #expect(rig.queue.level.spans < 4_000)
    #expect(rig.ledger.spooled > 10_000)
    try rig.pass(20 * second)
    #expect(rig.ledger.sent == 20_000)
    expectBalanced(rig)
  }

  @Test func newSpansAreNotHeldUpByTheReplay() throws {
    let folder = try Folder()
    try leave(1_000, in: folder)
    #expect(folder.files().count == 10)
    let second = try rig(folder)
    second.publish(512)
    try second.settle()
    #expect(second.messages.prefix(4).contains(512))
    #expect(second.ledger.sent == 1_512)
  }

  @Test func spoolIsBoundedAndTheOldestGiveWay() throws {
    let folder = try Folder()
    let rig = try rig(folder) { $0.spool?.bytesMax = 150_000 }
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 1_000)
    for count in 512..<522 {
      rig.publish(count)
      try rig.pass(20 * second)
    }
    #expect(rig.state.spoolBytes <= 150_000)
    #expect(rig.ledger.dropped(.spoolFull) >= 7 * 512)
    #expect(folder.files().count == 2)
    expectBalanced(rig)
    rig.connectErrors = []
    try rig.pass(30 * second)
    #expect(rig.messages == [520, 521])
    expectBalanced(rig)
  }

  @Test func filesAreBoundedInNumber() throws {
    let folder = try Folder()
    let first = try rig(folder) { configuration in
      configuration.message.spansMax = 10
      configuration.spool?.filesMax = 5
    }
    first.publish(200)
    first.driver.finish()
    #expect(folder.files().count == 5)
    #expect(first.ledger.spooled == 50)
    #expect(first.ledger.dropped(.spoolFull) == 150)
    // A smaller bound holds for what is found, too.
    let second = try rig(folder) { $0.spool?.filesMax = 2 }
    #expect(second.ledger.spooled == 20)
    #expect(second.ledger.dropped(.spoolFull) == 30)
    expectBalanced(second)
  }

  @Test func everyTornFileIsSkippedAndCounted() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.publish(3)
    first.driver.finish()
    let name = try #require(folder.files().first)
    let whole = folder.read("test/\(name)")
    #expect(whole.count > 300)
    for length in stride(from: 0, to: whole.count, by: 7) {
      folder.write("test/\(name)", Array(whole[..<length]))
      let rig = try rig(folder)
      #expect(rig.ledger.recovered == 0)
      #expect(rig.state.spoolFilesSkipped == 1)
      #expect(folder.files().isEmpty)
      rig.driver.finish()
    }
  }

  @Test func everyDamagedByteIsNoticed() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.publish(1)
    first.driver.finish()
    let name = try #require(folder.files().first)
    let whole = folder.read("test/\(name)")
    for index in whole.indices {
      var damaged = whole
      damaged[index] ^= 0x10
      folder.write("test/\(name)", damaged)
      let rig = try rig(folder)
      rig.driver.pump()
      try rig.settle()
      #expect(rig.calls == 0)
      #expect(rig.state.spoolFilesSkipped == 1)
      #expect(rig.ledger.dropped(.spoolDamaged) == rig.ledger.recovered)
      expectBalanced(rig)
      rig.driver.finish()
    }
  }

  @Test func draftsAreRemovedAndForeignFilesLeftAlone() throws {
    let folder = try Folder()
    try rig(folder).driver.finish()
    folder.write("test/123.draft", [1, 2, 3])
    folder.write("test/notes.txt", [1, 2, 3])
    let rig = try rig(folder)
    #expect(folder.files() == ["notes.txt"])
    #expect(rig.state.spoolFilesSkipped == 0)
  }

  @Test func servicesOfOneNameHaveFoldersOfTheirOwn() throws {
    let folder = try Folder()
    let first = try rig(folder)
    let second = try rig(folder)
    first.publish(10)
    second.publish(20)
    first.driver.finish()
    second.driver.finish()
    #expect(folder.files("test").count == 1)
    #expect(folder.files("test.1").count == 1)
    // Whoever comes next takes over what nobody owns any more.
    let third = try rig(folder)
    #expect(third.ledger.recovered == 30)
    #expect(folder.files("test").count == 2)
    #expect(folder.files("test.1").isEmpty)
    third.driver.pump()
    try third.settle()
    #expect(third.messages == [10, 20])
  }

  @Test func folderOfALivingOwnerIsLeftAlone() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.connectErrors = Array(repeating: ECONNREFUSED, count: 100)
    first.publish(512)
    try first.pass(20 * second)
    #expect(folder.files().count == 1)
    let second = try rig(folder)
    #expect(second.ledger.recovered == 0)
    #expect(folder.files().count == 1)
  }

  @Test func messageThatIsAtFaultIsDroppedInTheEnd() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.publish(100)
    first.driver.finish()
    let rig = try rig(folder)
    let never = CollectorAnswer.status(.resourceExhausted, details: retryInfo(seconds: 60))
    rig.answers = [never, .ok, never, never]
    rig.driver.pump()
    try rig.settle()
    rig.publish(30)
    try rig.pass(20 * second)
    #expect(rig.messages == [100, 30, 100, 100])
    #expect(rig.ledger.dropped(.deadline) == 100)
    #expect(rig.ledger.sent == 30)
    #expect(folder.files().isEmpty)
    expectBalanced(rig)
  }

  @Test func messageThatIsAtFaultDoesNotHoldUpThoseBehindIt() throws {
    let folder = try Folder()
    try leave(150, in: folder)
    let rig = try rig(folder)
    let never = CollectorAnswer.status(.resourceExhausted, details: retryInfo(seconds: 60))
    rig.answers = [never, never, never, .ok, never]
    rig.driver.pump()
    try rig.pass(30 * second)
    #expect(rig.messages == [100, 100, 100, 50, 100])
    #expect(rig.ledger.dropped(.deadline) == 100)
    #expect(rig.ledger.sent == 50)
    expectBalanced(rig)
  }

  @Test func longOutageAloneDropsNothing() throws {
    let folder = try Folder()
    let rig = try rig(folder)
    rig.answers = Array(repeating: .status(.unavailable), count: 60)
    rig.publish(512)
    try rig.pass(100 * second)
    #expect(rig.ledger.dropped == 0)
    rig.answers = []
    try rig.pass(20 * second)
    #expect(rig.ledger.sent == 512)
    expectBalanced(rig)
  }

  @Test func folderThatCannotBeUsedIsNamedAndSpansAreBookedAsWithoutOne() throws {
    let rig = try Rig { configuration in
      configuration.spool = SpoolConfiguration(folder: "/proc/nowhere")
      configuration.retry.total = 5 * second
    }
    rig.driver.openSpool()
    #expect(rig.lines.all.contains { $0.hasPrefix("span spool cannot be used") })
    #expect(rig.state.spoolErrors == 1)
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 100)
    rig.publish(512)
    try rig.pass(10 * second)
    #expect(rig.ledger.dropped(.deadline) == 512)
    rig.expectBalanced()
  }

  @Test func diskThatRefusesLosesNoMoreThanNoDisk() throws {
    let folder = try Folder()
    let rig = try rig(folder) { configuration in
      configuration.queue.spansMax = 4_000
      configuration.message.spansMax = 500
      configuration.retry.total = 60 * second
    }
    // The folder goes away under the process.
    rmdir("\(folder.path)/test")
    rig.answers = [.stall]
    for _ in 0..<7 {
      rig.publish(500)
      try rig.settle()
    }
    #expect(rig.state.spoolErrors >= 1)
    #expect(rig.ledger.dropped == 0)
    try rig.pass(20 * second)
    #expect(rig.ledger.sent == 3_500)
    expectBalanced(rig)
  }

  @Test(arguments: [
    ("dynamo-frontend", "dynamo-frontend"), ("a/b c", "a_b_c"), ("..", "_.."), ("", "_"), ("\u{e4}", "__"),
  ])
  func serviceNamesAreSafeAsFileNames(service: String, name: String) {
    #expect(SpoolFolder.fileName(service) == name)
  }

  /// Puts a link where the file was, which the spool does not follow: the open fails with ELOOP, also for root.
  private func hide(_ name: String, in folder: Folder) {
    rename("\(folder.path)/test/\(name)", "\(folder.path)/test/hidden")
    symlink("hidden", "\(folder.path)/test/\(name)")
  }

  private func reveal(_ name: String, in folder: Folder) {
    rename("\(folder.path)/test/hidden", "\(folder.path)/test/\(name)")
  }

  @Test func fileThatCannotBeOpenedAtStartStaysForTheNextProcess() throws {
    let folder = try Folder()
    let first = try rig(folder)
    first.publish(100)
    first.driver.finish()
    let name = try #require(folder.files().first)
    hide(name, in: folder)
    let second = try rig(folder)
    #expect(second.ledger.recovered == 0)
    #expect(second.state.spoolFilesSkipped == 0)
    #expect(second.state.spoolErrors == 1)
    #expect(folder.files().contains(name))
    second.driver.finish()
    reveal(name, in: folder)
    let third = try rig(folder)
    #expect(third.ledger.recovered == 100)
    third.driver.pump()
    try third.settle()
    #expect(third.ledger.sent == 100)
    expectBalanced(third)
  }

  @Test func fileThatCannotBeReadDoesNotHoldUpThoseBehindIt() throws {
    let folder = try Folder()
    try leave(150, in: folder)
    let name = try #require(folder.files().first)
    let second = try rig(folder)
    hide(name, in: folder)
    second.driver.pump()
    try second.pass(5 * Base.second)
    #expect(second.messages == [50])
    #expect(second.state.spoolErrors == 1)
    #expect(second.ledger.spooled == 100)
    expectBalanced(second)
    second.driver.finish()
    reveal(name, in: folder)
    let third = try rig(folder)
    third.driver.pump()
    try third.settle()
    #expect(third.messages == [100])
    expectBalanced(third)
  }

  @Test func spansThatWereGivenUpBeforeTheDiskTookThemAreBookedOnce() throws {
    let folder = try Folder()
    let rig = try rig(folder)
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 100)
    rig.publish(512)
    try rig.settle()
    // As a shutdown does whose thread is late.
    rig.queue.abandon()
    try rig.pass(20 * second)
    #expect(rig.ledger.dropped(.shutdown) == 512)
    #expect(rig.ledger.spooled == 0)
    #expect(folder.files().isEmpty)
    expectBalanced(rig)
  }

  @Test func spansThatAreGivenUpWhileTheDiskTakesThemAreBookedOnce() throws {
    let folder = try Folder()
    let ledger = SpanLedger()
    let queue = ExportQueue(limits: ExportQueue.Limits(), ledger: ledger)
    let spool = try ExportSpool(SpoolConfiguration(folder: folder.path), service: "test", ledger: ledger)
    ledger.recordMade(30)
    _ = queue.put(batch(30))
    var lost = 0
    let slices = queue.take(spansMax: 100, bytesMax: 1 << 20).flatMap {
      SpanSlice.cut($0, spansMax: 100, bytesMax: 1 << 20, lost: &lost)
    }
    let resource = TelemetryResource(serviceName: "test", serviceVersion: "1", instanceID: "id")
    let isStored = try spool.add(ExportMessage(slices, resource: resource), wallNanoseconds: 1) {
      #expect(folder.files().count == 1)
      queue.abandon()
      return queue.settle(spooled: 30)
    }
    #expect(!isStored)
    #expect(folder.files().isEmpty)
    #expect(spool.count == 0)
    #expect(ledger.spooled == 0)
    #expect(ledger.dropped(.shutdown) == 30)
    #expect(ledger.pending == 0)
  }
}
