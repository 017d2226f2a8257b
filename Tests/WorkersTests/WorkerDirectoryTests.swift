// The directory as its users see it: a thread of its own, real sockets, snapshots on other loops.

import Base
import EventLoop
import Foundation
import Routing
import Synchronization
import Telemetry
import Testing

@testable import Workers

/// An HTTP worker that answers by path, one connection at a time.
final class FakeWorker: Sendable {
  private let listener: Int32
  let port: UInt16
  private let answers: Mutex<[String: String]>
  private let seen = Mutex<[String]>([])

  init(_ answers: [String: String]) throws {
    self.answers = Mutex(answers)
    let (descriptor, address) = try Sockets.listen(host: "0.0.0.0", port: 0)
    listener = descriptor
    port = address.port
    // The test plays a plain blocking server.
    _ = fcntl(descriptor, F_SETFL, 0)
    try startThread { [self] in serve() }
  }

  func stop() { _ = shutdown(listener, Int32(SHUT_RDWR)) }

  /// Request heads so far.
  var heads: [String] { seen.withLock { $0 } }

  private func serve() {
    while true {
      let connection = accept(listener, nil, nil)
      guard connection >= 0 else { break }
      answer(connection)
      _ = close(connection)
    }
    _ = close(listener)
  }

  private func answer(_ connection: Int32) {
    var text = ""
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while !text.contains("\r\n\r\n") {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0 else { return }
      text += String(decoding: buffer[..<count], as: UTF8.self)
    }
    let head = text
    seen.withLock { $0.append(head) }
    let path = head.split(separator: " ").dropFirst().first.map(String.init) ?? ""
    let status = answers.withLock { $0[path] } == nil ? "404 Not Found" : "200 OK"
    let body = answers.withLock { $0[path] } ?? ""
    let answer =
      "HTTP/1.1 \(status)\r\ncontent-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n\(body)"
    _ = answer.withCString { send(connection, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
  }
}

/// A loop that adopts snapshots, as a frontend's does.
final class Adopter: Sendable {
  private let sets = Mutex<[WorkerSet]>([])
  private let arrived = DispatchSemaphore(value: 0)
  let mailbox: Mailbox

  init() throws {
    let handed = HandedLoop(loop: try EventLoop(index: 0, seed: 1))
    mailbox = handed.loop.mailbox
    try startThread { handed.loop.run() }
  }

  func adopt(_ set: WorkerSet) {
    sets.withLock { $0.append(set) }
    arrived.signal()
  }

  var generations: [Int] { sets.withLock { $0.map(\.generation) } }

  /// Waits until the newest snapshot is as wanted; fails after 20 s.
  func wait(_ wanted: (WorkerSet) -> Bool) throws -> WorkerSet {
    while true {
      if let last = sets.withLock({ $0.last }), wanted(last) { return last }
      try #require(arrived.wait(timeout: .now() + 20) == .success, "no such snapshot came")
    }
  }
}

struct WorkerDirectoryTests {
  private func directory(
    _ registry: MetricRegistry = MetricRegistry(), edit: (inout WorkerDirectoryConfiguration) -> Void
  ) throws -> (WorkerDirectory, Adopter) {
    var configuration = WorkerDirectoryConfiguration()
    configuration.firstProbeInterval = 20 * millisecond
    configuration.retryProbeInterval = 20 * millisecond
    edit(&configuration)
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: registry)
    let adopter = try Adopter()
    directory.subscribe(adopter.mailbox) { adopter.adopt($1) }
    return (directory, adopter)
  }

  private let models = #"{"object":"list","data":[{"id":"m"}]}"#

  @Test func aWorkerIsLearnedOverHTTP() throws {
    let worker = try FakeWorker([
      "/team/v1/models": models,
      "/team/metrics": "vllm:cache_config_info{block_size=\"8\",num_gpu_blocks=\"99\"} 1\n",
    ])
    defer { worker.stop() }
    let registry = MetricRegistry()
    let (directory, adopter) = try directory(registry) {
      $0.urls = ["http://127.0.0.1:\(worker.port)/team"]
      $0.apiKey = "secret"
    }
    try directory.start()
    defer { directory.stop() }
    let set = try adopter.wait { $0.hasReadyWorker }
    #expect(set.workers[0].blockSize == 8)
    #expect(set.workers[0].totalBlocks == 99)
    #expect(set.models[0].routing.options.blockSize == 8)
    #expect(worker.heads.allSatisfy { $0.contains("authorization: Bearer secret\r\n") })
    #expect(worker.heads.allSatisfy { $0.contains("host: 127.0.0.1:\(worker.port)\r\n") })
    var page = ByteBuffer()
    registry.writePrometheus(into: &page)
    #expect(page.text.contains("dynamo_frontend_worker_up{worker_id=\"\(set.workers[0].id)\"} 1"))
    #expect(page.text.contains("dynamo_frontend_model_workers{model=\"m\"} 1"))
    #expect(page.text.contains("dynamo_frontend_model_total_kv_blocks{model=\"m\"} 99"))
  }

  @Test func aSubscriberGetsThePresentAndEachNewSnapshotInOrder() throws {
    let worker = try FakeWorker(["/v1/models": models])
    defer { worker.stop() }
    let (directory, early) = try directory { $0.urls = ["http://127.0.0.1:\(worker.port)"] }
    _ = try early.wait { $0.generation == 0 }
    try directory.start()
    defer { directory.stop() }
    _ = try early.wait { $0.hasReadyWorker }
    let late = try Adopter()
    directory.subscribe(late.mailbox) { late.adopt($1) }
    #expect(try late.wait { _ in true }.hasReadyWorker)
    #expect(early.generations == early.generations.sorted())
    #expect(directory.current.hasReadyWorker)
  }

  @Test func aFailedConnectTakesAWorkerOutUntilItAnswersAgain() throws {
    let worker = try FakeWorker(["/v1/models": models])
    defer { worker.stop() }
    let (directory, adopter) = try directory { $0.urls = ["http://127.0.0.1:\(worker.port)"] }
    try directory.start()
    defer { directory.stop() }
    let ready = try adopter.wait { $0.hasReadyWorker }
    directory.connectFailed(ready.workers[0].id)
    let out = try adopter.wait { !$0.hasReadyWorker && $0.generation > ready.generation }
    let back = try adopter.wait { $0.hasReadyWorker && $0.generation > out.generation }
    #expect(back.models[0].routing === ready.models[0].routing)
  }

  @Test func aWorkerThatIsNotThereSaysWhy() throws {
    let (listener, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    _ = close(listener)
    let (directory, adopter) = try directory { $0.urls = ["http://127.0.0.1:\(address.port)"] }
    try directory.start()
    defer { directory.stop() }
    _ = try adopter.wait { set in
      guard case .unreachable(let reason) = set.workers.first?.state else { return false }
      return reason.contains("Connection refused")
    }
  }

  @Test func otherStatusesAndSilenceAreReasons() throws {
    let worker = try FakeWorker(["/empty/v1/models": #"{"data":[]}"#])
    defer { worker.stop() }
    // It takes connections into its queue and never answers.
    let (silent, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    defer { _ = close(silent) }
    let (directory, adopter) = try directory {
      $0.urls = [
        "http://127.0.0.1:\(worker.port)", "http://127.0.0.1:\(worker.port)/empty",
        "http://127.0.0.1:\(address.port)",
      ]
      $0.probeTimeout = 200 * millisecond
    }
    try directory.start()
    defer { directory.stop() }
    let wanted = ["status 404", "it lists no model", "no answer in time"]
    _ = try adopter.wait { set in
      set.workers.map { worker in
        if case .unreachable(let reason) = worker.state { reason } else { "" }
      } == wanted
    }
  }

  @Test func aNameIsOneWorkerPerAddress() throws {
    let worker = try FakeWorker(["/v1/models": models])
    defer { worker.stop() }
    let hosts = Mutex(["127.0.0.1", "127.0.0.2"])
    let (directory, adopter) = try directory {
      $0.urls = ["dns+http://engines.test:\(worker.port)"]
      $0.resolveInterval = 20 * millisecond
      $0.resolve = { _, port in
        hosts.withLock { $0 }.flatMap { SocketAddress.resolve(host: $0, port: port) }
      }
    }
    try directory.start()
    defer { directory.stop() }
    let both = try adopter.wait { $0.models.first?.workers.count == 2 }
    #expect(
      Set(both.workers.map(\.url))
        == ["http://127.0.0.1:\(worker.port)", "http://127.0.0.2:\(worker.port)"])
    #expect(worker.heads.allSatisfy { $0.contains("host: engines.test:\(worker.port)\r\n") })
    hosts.withLock { $0 = ["127.0.0.2"] }
    let one = try adopter.wait { $0.workers.count == 1 }
    #expect(one.workers[0].url == "http://127.0.0.2:\(worker.port)")
    // A name server that fails takes nobody away.
    hosts.withLock { $0 = [] }
    hosts.withLock { $0 = ["127.0.0.1", "127.0.0.2"] }
    _ = try adopter.wait { $0.workers.count == 2 }
  }

  @Test func aNameThatIsNoLongerConfiguredTakesItsWorkersAlong() throws {
    let worker = try FakeWorker(["/v1/models": models])
    defer { worker.stop() }
    let name = "dns+http://engines.test:\(worker.port)"
    let (directory, adopter) = try directory {
      $0.urls = [name]
      $0.resolve = { _, port in
        ["127.0.0.1", "127.0.0.2"].flatMap { SocketAddress.resolve(host: $0, port: port) }
      }
    }
    try directory.start()
    defer { directory.stop() }
    _ = try adopter.wait { $0.models.first?.workers.count == 2 }
    try directory.adopt(urls: [], weights: RoutingWeights())
    _ = try adopter.wait { $0.workers.isEmpty && $0.generation > 1 }
    try directory.adopt(urls: [name], weights: RoutingWeights())
    _ = try adopter.wait { $0.models.first?.workers.count == 2 }
  }

  @Test func aNameThatNobodyKnowsIsAReason() throws {
    let (directory, adopter) = try directory {
      $0.urls = ["http://nowhere.test:1"]
      $0.resolve = { _, _ in [] }
    }
    try directory.start()
    defer { directory.stop() }
    _ = try adopter.wait { set in
      guard case .unreachable(let reason) = set.workers.first?.state else { return false }
      return reason == "its name has no address"
    }
  }

  @Test func aNamedFolderThatCannotBeTrustedEndsTheStart() throws {
    let path = NSTemporaryDirectory() + "open-\(UInt64.random(in: 0...UInt64.max))"
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o777])
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: path)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let (directory, _) = try directory { $0.discoveryFolder = DiscoveryFolder(explicit: path) }
    #expect(throws: WorkerDirectoryError.self) { try directory.start() }
    directory.stop()
  }

  @Test func aDirectoryCanBeStoppedTwice() throws {
    let (directory, _) = try directory { _ in }
    try directory.start()
    directory.stop()
    directory.stop()
    directory.connectFailed(1)
  }
}
