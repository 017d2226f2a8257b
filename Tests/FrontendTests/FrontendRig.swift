// One loop of the frontend on a played kernel: callers and workers are descriptors, time moves when a test says so.

import Base
import EventLoop
import Logging
import OpenAI
import Routing
import Synchronization
import Telemetry
import TestSupport
import Transport
import Workers

@testable import Frontend

/// Takes log lines.
final class LineCollector: LogSink {
  private let text = Mutex("")

  func write(_ lines: UnsafeRawBufferPointer) { text.withLock { $0 += lines.text } }

  var lines: [String] { text.withLock { $0 }.split(separator: "\n").map(String.init) }
}

/// Takes the spans that a loop publishes.
final class SpanCollector: SpanSink {
  private let batches = Mutex<[SpanBatch]>([])

  func publish(_ batch: SpanBatch) { batches.withLock { $0.append(batch) } }

  /// Their bytes as text: names and values stand in it as they are.
  var text: String {
    batches.withLock { $0 }.map { $0.bytes.withUnsafeBytes { $0.text } }.joined()
  }

  /// What of them is not as the schema of spans says; and how many there are.
  func check(_ schema: SpanSchema) throws -> (faults: [String], spanCount: Int) {
    var faults: [String] = []
    var count = 0
    for batch in batches.withLock({ $0 }) {
      let found = try batch.bytes.withUnsafeBytes { try schema.check($0) }
      faults += found.faults
      count += found.spanCount
    }
    return (faults, count)
  }
}

/// Hears of failed connects, and has the newest snapshot.
final class QuietReports: WorkerReports {
  private let newest = Mutex(WorkerSet.empty)
  var current: WorkerSet {
    get { newest.withLock { $0 } }
    set { newest.withLock { $0 = newValue } }
  }

  private let heard = Mutex<(failed: [UInt64], timedOut: [UInt64])>(([], []))
  var failed: [UInt64] { heard.withLock { $0.failed } }
  var timedOut: [UInt64] { heard.withLock { $0.timedOut } }

  func connectFailed(_ worker: UInt64) { heard.withLock { $0.failed.append(worker) } }
  private let suspected = Mutex<[UInt64]>([])
  var suspects: [UInt64] { suspected.withLock { $0 } }
  func requestsFailed(_ worker: UInt64) { suspected.withLock { $0.append(worker) } }
  func connectTimedOut(_ worker: UInt64) { heard.withLock { $0.timedOut.append(worker) } }
}

/// Descriptors for connects to workers, counted up from 100.
final class Dialer {
  private(set) var last: Int32 = 99

  func dial(_ address: SocketAddress) throws(SystemError) -> Int32 {
    last += 1
    return last
  }
}

/// The application of one loop with one model and two workers. The pool has no threads: a test runs its work.
final class FrontendRig {
  static let listener: Int32 = 3
  static let model = "test/model"
  let kernel = FakeKernel()
  let loop: EventLoop
  let shared: FrontendShared
  let service: FrontendLoop
  let server: HTTPServer
  let lines = LineCollector()
  /// Writes to ``lines``.
  let logger: Logger
  let spans = SpanCollector()
  let dialer = Dialer()
  let reports = QuietReports()
  private var callers: Int32 = 9

  private let options: RoutingOptions

  /// - Parameter traces: spans are made and go to ``spans``.
  init(
    routing: RoutingOptions = RoutingOptions(), traces: Bool = false,
    logs: LogConfiguration = LogConfiguration(format: .jsonl),
    edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws {
    var configuration = FrontendConfiguration()
    configuration.tracing.hasContext = traces
    configuration.tracing.recordsSpans = traces
    edit(&configuration)
    options = routing
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    let registry = MetricRegistry()
    shared = try FrontendShared(configuration: configuration, registry: registry)
    let dialer = dialer
    let log = LogOutput(configuration: logs, sink: lines) { 0 }
    logger = log.logger("\(LogTarget.frontend)")
    service = FrontendLoop(
      loop: loop, configuration: configuration, shared: shared, reports: reports,
      outputs: TelemetryOutputs(spanSink: traces ? spans : nil, ledger: SpanLedger(), log: log),
      routeSpanName: SpanName.kvRouteRequest, buckets: MetricBuckets(),
      dial: { address throws(SystemError) in try dialer.dial(address) })
    server = HTTPServer(
      loop: loop, application: service, limits: configuration.server, loads: shared.loads,
      counters: shared.listenerCounters)
    try server.listen(on: Self.listener)
    adopt(generation: 1)
  }

  deinit {
    // What is with the pool comes home first: the loop keeps its request until then.
    while runPool() {}
    server.cutAll()
    // What those requests still have to tell: each keeps itself for it until the end of a tick, and there is none.
    service.flush()
    loop.close()
  }

  /// Gives the loop a snapshot.
  func adopt(generation: Int, blockSize: Int = 16) {
    service.adopt(snapshot(generation: generation, blockSize: blockSize))
  }

  /// A snapshot with the model on two workers; `blockSize` 0 leaves the model out.
  /// `endpoints` are the routes of each worker.
  func snapshot(
    generation: Int, blockSize: Int = 16, endpoints: [EndpointSet] = [], engine: EngineKind = .unknown,
    prefill: [UInt64] = []
  ) -> WorkerSet {
    let addresses = SocketAddress.resolve(host: "127.0.0.1", port: 9)
    let workers = [UInt64(1), 2].map { id in
      var worker = Worker(
        id: id, url: "http://127.0.0.1:\(id)",
        upstream: Upstream(id: id, addresses: addresses, authority: "worker-\(id)"), source: .fixed,
        state: .ready, models: [Self.model], blockSize: blockSize)
      worker.engine = engine
      if endpoints.count == 2 { worker.endpoints = endpoints[Int(id) - 1] }
      return worker
    }
    var options = options
    options.blockSize = max(blockSize, 1)
    let routing = ModelRouting(options: options)
    routing.workersChanged(workers)
    let readers = prefill.map { id in
      var worker = Worker(
        id: id, url: "http://127.0.0.1:\(id)",
        upstream: Upstream(id: id, addresses: addresses, authority: "prefill-\(id)"), source: .fixed,
        state: .ready, models: [Self.model], blockSize: blockSize)
      worker.engine = engine
      worker.role = .prefill
      return worker
    }
    let others = ModelRouting(options: options)
    others.workersChanged(readers)
    let reading = ServedModel(
      name: Self.model, workers: readers, created: 1, routing: others, role: .prefill)
    let models =
      blockSize == 0
      ? []
      : [
        ServedModel(
          name: Self.model, workers: workers, created: 1, routing: routing,
          prefill: readers.isEmpty ? nil : reading)
      ]
    return WorkerSet(generation: generation, workers: workers + readers, models: models)
  }

  // MARK: Callers

  /// A new caller's descriptor.
  func connect() -> Int32 {
    callers += 1
    kernel.pendingAccepts[Self.listener, default: []].append(callers)
    kernel.queue([(Self.listener, .readable)])
    turn()
    return callers
  }

  func send(_ text: String, on caller: Int32) {
    kernel.input[caller, default: []].append(Array(text.utf8))
    kernel.queue([(caller, .readable)])
    turn()
  }

  /// The caller closes its sending half.
  func close(_ caller: Int32) {
    kernel.input[caller, default: []].append([])
    kernel.queue([(caller, .peerClosed)])
    turn()
  }

  /// The connection breaks.
  func reset(_ caller: Int32) {
    kernel.receiveErrors[caller] = 104
    kernel.queue([(caller, .error)])
    turn()
  }

  /// Sends a chat request with `body` on a new connection.
  func post(_ body: String) -> Int32 {
    let caller = connect()
    send(Self.head(bodyBytes: body.utf8.count) + body, on: caller)
    return caller
  }

  static func head(bodyBytes: Int) -> String {
    "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: r\r\ncontent-type: application/json\r\n"
      + "content-length: \(bodyBytes)\r\n\r\n"
  }

  /// A chat body whose prompt has about `bytes` bytes.
  static func chat(bytes: Int, more: String = "") -> String {
    let text = String(repeating: "lorem ipsum ", count: bytes / 12 + 1).prefix(bytes)
    return "{\"model\":\"\(model)\",\"messages\":[{\"role\":\"user\",\"content\":\"\(text)\"}]\(more)}"
  }

  /// What the caller got since the last look.
  func output(_ caller: Int32) -> String { String(decoding: kernel.takeOutput(caller), as: UTF8.self) }

  func isClosed(_ caller: Int32) -> Bool { kernel.closed.contains(caller) }

  // MARK: Workers

  /// Completes the latest connect to a worker and gives what was sent on it.
  func upstreamRequest() -> String {
    kernel.queue([(dialer.last, .writable)])
    turn()
    return String(decoding: kernel.takeOutput(dialer.last), as: UTF8.self)
  }

  /// The latest worker connection answers `body` with 200.
  func answer(_ body: String) {
    let text =
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n\r\n"
    send(text + body, on: dialer.last)
  }

  /// The latest worker connection answers 200 and is not kept, so that the next request comes on a new one.
  func answerAndClose(_ body: String) {
    send(
      "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: \(body.utf8.count)\r\n\r\n" + body,
      on: dialer.last)
  }

  // MARK: Time

  /// A wake-up with whatever mail there is.
  func turn() {
    for _ in 0..<3 {
      kernel.queueRaw([(UInt64.max, .readable)])
      loop.turn(patience: 0)
    }
  }

  func pass(_ time: Nanoseconds) {
    kernel.time += time
    turn()
  }

  /// Does one piece of the pool's work and lets it come home.
  @discardableResult
  func runPool() -> Bool {
    let ran = shared.pool.runNext()
    turn()
    return ran
  }
}

extension String {
  /// The status code of a response.
  var status: Int? { split(separator: " ").dropFirst().first.flatMap { Int($0) } }

  /// What follows the first empty line.
  var body: String {
    guard let end = range(ofText: "\r\n\r\n") else { return "" }
    return String(self[end...])
  }

  private func range(ofText text: String) -> String.Index? {
    var index = startIndex
    while index < endIndex {
      if self[index...].hasPrefix(text) { return self.index(index, offsetBy: text.count) }
      index = self.index(after: index)
    }
    return nil
  }
}
