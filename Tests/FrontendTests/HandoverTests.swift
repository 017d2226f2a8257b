// Handing the listening sockets over: whatever becomes of the next process, exactly one serves on, and keeps its files.

import Base
import EventLoop
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Frontend

/// A process that serves on a Unix socket and offers it, on a loop that the test turns.
private final class Serving {
  let folder: String
  let loop: EventLoop
  let listener: Listener
  /// As a service manager passes one: its file stays the manager's.
  let passed: Listener
  private let rig: FrontendRig
  private(set) var host: HandoverHost?
  private(set) var takenCount = 0
  var path: String { folder + "/handover" }

  init() throws {
    var template = Array("/tmp/dynamo-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw SystemError("mkdtemp", errno) }
    folder = String(cString: made)
    rig = try FrontendRig()
    loop = try EventLoop(index: 0, seed: 1)
    listener = try Listener.bind(.unix(path: folder + "/main"))
    let other = try Listener.bind(.unix(path: folder + "/passed"))
    passed = try #require(Listener(adopting: other.descriptor, purpose: .admin))
    try offer()
  }

  deinit {
    host?.close()
    loop.close()
    for one in [listener, passed] { _ = close(one.descriptor) }
    for name in ["main", "passed", "handover"] { unlink("\(folder)/\(name)") }
    rmdir(folder)
  }

  func offer() throws {
    host = try HandoverHost(
      path: path, loop: loop, listeners: [listener, passed], logger: rig.logger,
      readiness: { HandoverReadiness(isReady: true, workers: 3, models: 2) },
      taken: { [unowned self] in takenCount += 1 })
  }

  func turn() { for _ in 0..<3 { loop.turn(patience: 0) } }

  func connect() throws -> DescriptorChannel {
    let channel = try #require(try DescriptorChannel.connect(path: path, patience: 5))
    turn()
    return channel
  }

  /// What came; nil for an end. Passed descriptors are closed.
  func text(_ channel: DescriptorChannel) -> String? {
    turn()
    guard case .text(let text, let descriptors) = channel.receive() else { return nil }
    for descriptor in descriptors { _ = close(descriptor) }
    return text
  }

  /// The next process's side, which waits for this one's.
  func begin() throws -> Takeover {
    let result = Mutex<Result<Takeover?, Takeover.Failure>?>(nil)
    let path = path
    let thread = try Thread(name: "next") {
      do throws(Takeover.Failure) {
        let takeover = try Takeover.begin(path: path)
        result.withLock { $0 = .success(takeover) }
      } catch {
        result.withLock { $0 = .failure(error) }
      }
    }
    while result.withLock({ $0 == nil }) { loop.turn(patience: 1) }
    thread.join()
    return try #require(try result.withLock { try $0?.get() })
  }
}

struct HandoverTests {
  @Test func theSocketsGoWhenTheNextProcessServes() throws {
    let serving = try Serving()
    let next = try serving.connect()
    #expect(serving.text(next)?.hasSuffix("\n1 3 2\nmain with-file\nadmin") == true)
    #expect(next.send("take") && serving.text(next) == "taken" && serving.takenCount == 0)
    #expect(next.send("serving") && serving.text(next) == nil && serving.takenCount == 1)
    #expect(!Listener.isInUse(path: serving.path))
  }

  @Test func oneProcessIsOfferedThemAtATime() throws {
    let serving = try Serving()
    let first = try serving.connect()
    let second = try serving.connect()
    #expect(serving.text(first) != nil && serving.text(second) == nil)
    #expect(first.send("take") && serving.text(first) == "taken")
  }

  @Test(arguments: [["take"], ["take", "wait"], ["nonsense"], []])
  func aNextProcessThatGoesAwayChangesNothing(_ says: [String]) throws {
    let serving = try Serving()
    var next: DescriptorChannel? = try serving.connect()
    for word in says { if word == "wait" { serving.turn() } else { #expect(next?.send(word) == true) } }
    next = nil
    serving.turn()
    #expect(serving.takenCount == 0)
    #expect(serving.text(try serving.connect()) != nil)
  }

  @Test func whoeverLooksWhetherThePathIsInUseIsOfferedNothing() throws {
    let serving = try Serving()
    #expect(Listener.isInUse(path: serving.path))
    #expect(throws: SystemError.self) { try Listener.bindMessages(path: serving.path) }
    // Had it been taken for a process that asks, the next one would be refused.
    #expect(serving.text(try serving.connect()) != nil)
  }

  @Test func anOfferThatEndsIsNoLeaveToServeBesideAnother() throws {
    let serving = try Serving()
    let takeover = try serving.begin()
    serving.host?.close()
    try serving.offer()
    #expect(throws: Takeover.Failure.self) { try takeover.take() }
    for listener in takeover.listeners { close(listener.descriptor) }
  }

  @Test func theSocketsOfAProcessThatIsGoneAreTaken() throws {
    let serving = try Serving()
    let takeover = try serving.begin()
    #expect(serving.host?.close() == true)
    try takeover.take()
    for listener in takeover.listeners { close(listener.descriptor) }
  }

  @Test func filesGoOnlyWithSocketsThatHaveThem() throws {
    let serving = try Serving()
    let takeover = try serving.begin()
    #expect(takeover.listeners.map(\.ownsFile) == [true, false])
    #expect(takeover.listeners.map(\.purpose) == [.main, .admin])
    for listener in takeover.listeners { close(listener.descriptor) }
    // Told to stop while nobody asks, the process keeps its files.
    let alone = try Serving()
    #expect(alone.host?.close() == false)
  }

  @Test func onlySocketsThatTheNewSettingsNameAreServed() throws {
    let serving = try Serving()
    let taken = [serving.listener]
    #expect(FrontendSockets.named(taken, .unix(path: serving.folder + "/main")).count == 1)
    #expect(FrontendSockets.named(taken, .unix(path: serving.folder + "/other")).isEmpty)
    #expect(FrontendSockets.named(taken, .tcp(host: "127.0.0.1", port: 0)).isEmpty)
    #expect(FrontendSockets.named(taken, nil).isEmpty)
  }

  @Test(arguments: [true, false])
  func theNextProcessWaitsUntilItHasAsManyWorkers(_ comeAll: Bool) throws {
    let serving = try Serving()
    let takeover = try serving.begin()
    // Gone, so that nobody needs to answer while the rig's time passes.
    serving.host?.close()
    let rig = try FrontendRig()
    var readiness = HandoverReadiness(isReady: true, workers: 1, models: 2)
    var outcomes: [Bool] = []
    let succession = Succession(
      takeover, loop: rig.loop, readiness: { readiness }, done: { outcomes.append($0 == nil) })
    succession.begin()
    rig.pass(second)
    #expect(outcomes.isEmpty)
    if comeAll { readiness.workers = 3 }
    rig.pass(comeAll ? second : Succession.patience)
    #expect(outcomes == [true])
    for listener in takeover.listeners { close(listener.descriptor) }
  }

  @Test func withoutAnyWorkerTheNextProcessGivesUp() throws {
    let serving = try Serving()
    let takeover = try serving.begin()
    serving.host?.close()
    let rig = try FrontendRig()
    var outcomes: [Bool] = []
    let succession = Succession(
      takeover, loop: rig.loop, readiness: { HandoverReadiness(isReady: false) },
      done: { outcomes.append($0 == nil) })
    succession.begin()
    rig.pass(Succession.patience + second)
    #expect(outcomes == [false])
    for listener in takeover.listeners { close(listener.descriptor) }
  }
}

struct AdminAddressTests {
  @Test func whereverItsSocketComesFromTheAdminListenerIsGuarded() throws {
    let address = { (text: String, port: UInt16) in SocketAddress.resolve(host: text, port: port)[0] }
    let path = try #require(SocketAddress(unixPath: "/run/x"))
    let abstract = try #require(SocketAddress(unixPath: "@x"))
    #expect(FrontendConfiguration.adminFault(path, hasToken: false) == nil)
    for guarded in [abstract, address("127.0.0.1", 1), address("::1", 1)] {
      #expect(FrontendConfiguration.adminFault(guarded, hasToken: false)?.contains("token") == true)
      #expect(FrontendConfiguration.adminFault(guarded, hasToken: true) == nil)
    }
    for open in [address("0.0.0.0", 1), address("::", 1), address("192.0.2.1", 1)] {
      #expect(FrontendConfiguration.adminFault(open, hasToken: true)?.contains("loopback") == true)
    }
  }
}
