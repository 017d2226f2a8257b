// A whole worker on a loopback port, and a client that blocks: for what only real sockets and threads can show.

import Base
import Engine
import EventLoop
import Foundation
import Synchronization
import Telemetry
import Testing
import Workers

@testable import WorkerServer

/// A running worker that records its spans and lines.
final class LiveWorker {
  let server: WorkerServer
  let spans = SpanCollector()
  let lines = LineCollector()
  let store: String
  private let done = DispatchSemaphore(value: 0)
  private var hasStopped = false

  init(edit: (inout WorkerConfiguration) -> Void = { _ in }) throws {
    store = NSTemporaryDirectory() + "worker-\(UInt64.random(in: 0...UInt64.max))"
    var simulated = EngineConfiguration()
    simulated.speedupRatio = 100
    var configuration = WorkerConfiguration()
    configuration.model = "test/model"
    configuration.engine = .simulated(simulated)
    configuration.discoveryFolder = DiscoveryFolder(explicit: store)
    edit(&configuration)
    var limits = SpanPublisher.Limits()
    limits.batchSpansMax = 1
    server = WorkerServer(
      configuration: configuration,
      telemetry: WorkerTelemetry(
        spanSink: spans, ledger: SpanLedger(), registry: MetricRegistry(),
        logs: LogOutput(configuration: LogConfiguration(format: .jsonl), sink: lines) { 0 },
        tracesContext: true,
        publisherLimits: limits))
    try server.start()
  }

  deinit {
    stop()
    try? FileManager.default.removeItem(atPath: store)
  }

  var port: UInt16 { server.port }

  /// Stops and waits for it.
  func stop() {
    guard !hasStopped else { return }
    hasStopped = true
    let done = done
    server.stop { done.signal() }
    done.wait()
    server.join()
  }

  /// Begins the stop without waiting.
  func beginStop() {
    hasStopped = true
    let done = done
    server.stop { done.signal() }
  }

  func waitUntilStopped() {
    done.wait()
    server.join()
  }

  /// Asks again until the worker can serve.
  func waitUntilReady() throws {
    for _ in 0..<20_000 where try get("/health").hasPrefix("HTTP/1.1 200") { return }
    Issue.record("the worker did not become ready")
  }

  func get(_ path: String) throws -> String {
    try BlockingClient(port: port).exchange("GET \(path) HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
  }

  static func post(_ body: String, _ headers: [String] = [], close: Bool = true) -> String {
    let more = (headers + (close ? ["connection: close"] : [])).map { $0 + "\r\n" }.joined()
    return "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
      + "content-length: \(body.utf8.count)\r\n\(more)\r\n\(body)"
  }

  static func chat(_ more: String = "") -> String {
    "{\"model\":\"test/model\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello there\"}]\(more)}"
  }

  /// The paths of all records in the store, relative to it.
  var records: [String] {
    let all = FileManager.default.enumerator(atPath: store)?.compactMap { $0 as? String } ?? []
    return all.filter { path in
      var isFolder: ObjCBool = false
      return FileManager.default.fileExists(atPath: store + "/" + path, isDirectory: &isFolder)
        && !isFolder.boolValue
    }
  }
}

/// A socket with blocking calls and a bound on each.
final class BlockingClient {
  private let descriptor: Int32

  init(port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var wait = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
  }

  deinit { closeNow() }

  private var isClosed = false

  func closeNow() {
    if !isClosed { close(descriptor) }
    isClosed = true
  }

  func send(_ text: String) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  /// Reads until `text` was seen, or to the end; what was read.
  func read(until text: String? = nil) -> String {
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count <= 0 { break }
      result += buffer[..<count]
      if let text, String(decoding: result, as: UTF8.self).contains(text) { break }
    }
    return String(decoding: result, as: UTF8.self)
  }

  func exchange(_ request: String) -> String {
    send(request)
    return read()
  }
}
