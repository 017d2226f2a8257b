// One worker loop on a played kernel: requests as heads and bodies, exchanges that write down what they are told.

import Base
import Engine
import EventLoop
import HTTP
import OpenAI
import Protobuf
import Synchronization
import Telemetry
import TestSupport
import Transport
import Workers

@testable import WorkerServer

/// Takes the spans that a worker publishes.
final class SpanCollector: SpanSink {
  private let batches = Mutex<[SpanBatch]>([])

  func publish(_ batch: SpanBatch) { batches.withLock { $0.append(batch) } }

  var spans: [DecodedSpan] {
    batches.withLock { $0 }.flatMap { batch in
      batch.bytes.withUnsafeBytes { bytes in
        var reader = ProtobufReader(bytes)
        var spans: [DecodedSpan] = []
        while let field = try? reader.next() {
          if let content = field.bytes { spans.append(DecodedSpan(content)) }
        }
        return spans
      }
    }
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

  func span(_ name: String) -> DecodedSpan? { spans.first { $0.name == name } }
}

/// Takes log lines.
final class LineCollector: LogSink {
  private let text = Mutex("")

  func write(_ lines: UnsafeRawBufferPointer) { text.withLock { $0 += lines.text } }

  var lines: [String] { text.withLock { $0 }.split(separator: "\n").map(String.init) }
}

/// A span as a receiver reads it (opentelemetry/proto/trace/v1/trace.proto).
struct DecodedSpan {
  var name = ""
  var traceID: [UInt8] = []
  var spanID: [UInt8] = []
  var parent: [UInt8] = []
  var kind: UInt64 = 0
  var start: UInt64 = 0
  var end: UInt64 = 0
  var status: UInt64 = 0
  var events: [String] = []
  var strings: [String: String] = [:]
  var ints: [String: Int] = [:]
  var doubles: [String: Double] = [:]
  var bools: [String: Bool] = [:]
  /// Span ids of its links.
  var links: [[UInt8]] = []

  init(_ content: UnsafeRawBufferPointer) {
    var reader = ProtobufReader(content)
    while let field = try? reader.next() {
      switch field.number {
      case 1: traceID = field.bytes.map { Array($0) } ?? []
      case 2: spanID = field.bytes.map { Array($0) } ?? []
      case 4: parent = field.bytes.map { Array($0) } ?? []
      case 5: name = field.bytes?.text ?? ""
      case 6: kind = field.varint ?? 0
      case 7: start = field.fixed64 ?? 0
      case 8: end = field.fixed64 ?? 0
      case 9: if let bytes = field.bytes { addAttribute(bytes) }
      case 11: events.append(Self.text(of: 2, in: field.bytes))
      case 13:
        var link = ProtobufReader(field.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0))
        while let part = try? link.next() {
          if part.number == 2, let id = part.bytes { links.append(Array(id)) }
        }
      case 15: status = Self.varint(of: 3, in: field.bytes)
      default: break
      }
    }
  }

  private mutating func addAttribute(_ bytes: UnsafeRawBufferPointer) {
    let key = Self.text(of: 1, in: bytes)
    var outer = ProtobufReader(bytes)
    while let field = try? outer.next() {
      guard field.number == 2, let value = field.bytes else { continue }
      var reader = ProtobufReader(value)
      while let item = try? reader.next() {
        switch item.number {
        case 1: strings[key] = item.bytes?.text
        case 2: bools[key] = item.varint == 1
        case 3: ints[key] = item.varint.map { Int(truncatingIfNeeded: $0) }
        case 4: doubles[key] = item.fixed64.map { Double(bitPattern: $0) }
        default: break
        }
      }
    }
  }

  private static func text(of number: Int, in bytes: UnsafeRawBufferPointer?) -> String {
    guard let bytes else { return "" }
    var reader = ProtobufReader(bytes)
    while let field = try? reader.next() {
      if field.number == number { return field.bytes?.text ?? "" }
    }
    return ""
  }

  private static func varint(of number: Int, in bytes: UnsafeRawBufferPointer?) -> UInt64 {
    guard let bytes else { return 0 }
    var reader = ProtobufReader(bytes)
    while let field = try? reader.next() {
      if field.number == number { return field.varint ?? 0 }
    }
    return 0
  }
}

/// An exchange that writes down what the application does with it.
final class RecordedExchange: ServerExchange {
  let loop: EventLoop
  private(set) var status = 0
  private(set) var fields = ""
  private(set) var body = ""
  private(set) var isFinished = false
  private(set) var wasAborted = false
  var outputIsFull = false
  var peerAddress: SocketAddress? { nil }

  init(on loop: EventLoop) { self.loop = loop }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    self.status = status
    self.fields = fields.text
  }

  func send(_ bytes: UnsafeRawBufferPointer) { body += bytes.text }
  func finish(trailers: UnsafeRawBufferPointer) { isFinished = true }
  func abort(_ end: EndOfStream) { wasAborted = true }
  func pauseBody() {}
  func resumeBody() {}
  func closeAfterResponse() {}

  /// The payloads of the `data:` lines so far.
  var events: [String] {
    body.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
  }
}

/// A worker loop with a simulated engine, all on one thread and on a clock that the test moves.
final class Rig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let worker: WorkerLoop
  let spans = SpanCollector()
  let lines = LineCollector()
  let ledger = SpanLedger()
  let registry = MetricRegistry()
  let model = "test/model"
  private let parser = HTTP1HeadParser(limits: HTTP1Limits())

  init(
    traces: Bool = true, trust: CallerTrust = .always, edit: (inout WorkerConfiguration) -> Void = { _ in },
    engine: (inout EngineConfiguration) -> Void = { _ in }
  ) throws {
    loop = try EventLoop(index: 0, system: kernel, seed: 7)
    var simulated = EngineConfiguration()
    engine(&simulated)
    var configuration = WorkerConfiguration()
    configuration.model = model
    configuration.engine = .simulated(simulated)
    edit(&configuration)
    let logs = LogOutput(configuration: LogConfiguration(format: .jsonl), sink: lines) { 0 }
    let telemetry = WorkerTelemetry(
      spanSink: traces ? spans : nil, ledger: ledger, registry: registry, logs: logs, tracesContext: traces,
      trust: trust)
    let shared = WorkerShared(
      configuration: configuration,
      identity: DiscoveryIdentity(
        namespace: configuration.namespace, component: configuration.component,
        endpoint: configuration.endpoint,
        instanceID: 4_711),
      telemetry: telemetry,
      metrics: WorkerMetrics(
        registry, configuration: configuration, buckets: MetricBuckets().requestDuration),
      models: ServedModelsBox(), started: loop.now, startedWallSeconds: 1_700_000_000)
    shared.models.value = ServedModels(
      models: [ListedModel(id: model, created: 1, contextTokens: simulated.contextTokens)], isReady: true,
      reason: "")
    worker = WorkerLoop(loop: loop, shared: shared)
    worker.backend = SimulatedBackend(simulated, on: worker)
  }

  deinit {
    worker.finish()
    loop.close()
  }

  /// Begins a request; `body` is delivered in pieces of `pieceBytes`.
  func begin(
    _ method: String = "POST", _ path: String = "/v1/chat/completions", _ headers: [String] = [],
    body: String = "", pieceBytes: Int = 1 << 20
  ) -> (RecordedExchange, any ServerExchangeHandler) {
    var head = "\(method) \(path) HTTP/1.1\r\nhost: test\r\n"
    if method == "POST" { head += "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n" }
    for header in headers { head += header + "\r\n" }
    head += "\r\n"
    let exchange = RecordedExchange(on: loop)
    let handler = Array(head.utf8).withUnsafeBytes { bytes -> any ServerExchangeHandler in
      var scanned = 0
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        preconditionFailure("the test wrote a bad head")
      }
      return worker.exchangeBegan(exchange, head, began: loop.now)
    }
    var rest = Array(body.utf8)[...]
    while !rest.isEmpty {
      Array(rest.prefix(pieceBytes)).withUnsafeBytes { handler.received(body: $0) }
      rest = rest.dropFirst(pieceBytes)
    }
    handler.receivedEnd()
    return (exchange, handler)
  }

  /// A chat body with `more` members.
  func chat(_ more: String = "", text: String = "Hello, how are you today?") -> String {
    "{\"model\":\"\(model)\",\"messages\":[{\"role\":\"user\",\"content\":\"\(text)\"}]\(more.isEmpty ? "" : ",")\(more)}"
  }

  /// Lets the loop turn, a millisecond of its clock at a time, until `condition` holds.
  func run(until condition: () -> Bool = { false }, milliseconds: Int = 2_000) {
    for _ in 0..<milliseconds {
      if condition() { return }
      kernel.time += millisecond
      loop.turn(patience: 0)
    }
  }

  /// Does a whole request whose client takes everything.
  func perform(
    _ method: String = "POST", _ path: String = "/v1/chat/completions", _ headers: [String] = [],
    body: String = ""
  ) -> RecordedExchange {
    let (exchange, handler) = begin(method, path, headers, body: body)
    run(until: { exchange.isFinished })
    handler.ended(.complete)
    return exchange
  }

  /// Lets waiting spans go out.
  func flushSpans() { run(milliseconds: 400) }

  var metrics: String {
    var out = ByteBuffer()
    registry.writePrometheus(into: &out)
    return out.text
  }
}
