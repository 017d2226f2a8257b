// An export driver on a played kernel, and a scripted collector at the other end of its sockets.

import Base
import EventLoop
import GRPC
import HTTP
import Logging
import Protobuf
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Exporter

/// What the collector does with the next call.
enum CollectorAnswer {
  case ok
  case partial(rejected: Int, String)
  case status(GRPCCode, String = "", details: [UInt8] = [])
  /// An HTTP status with more lines of the head and a body; the latter two over HTTP/1.1 only.
  case http(Int, String = "", [UInt8] = [])
  /// Bytes that are sent as they are; over HTTP/1.1 only.
  case raw([UInt8])
  case reset(UInt32)
  /// Says nothing.
  case stall
  /// Ends the connection without an answer.
  case close
  /// Refuses the call with GOAWAY.
  case goAway
  /// Answers, and says GOAWAY with the answer.
  case okAndGoAway
}

/// A call as a receiver saw it: its head, and the request as protobuf.
struct ReceivedCall {
  let head: HTTP2Fields
  let message: [UInt8]
  let wasCompressed: Bool
}

/// The receiver's half of one connection.
protocol Collector: AnyObject {
  var isClosed: Bool { get }
  /// Takes the exporter's bytes and returns the collector's.
  func exchange(_ bytes: [UInt8], _ next: (ReceivedCall) -> CollectorAnswer) throws -> [UInt8]
}

/// A gRPC receiver.
final class FakeCollector: Collector {
  let server: HTTP2ServerSession
  private(set) var isClosed = false

  init(_ limits: HTTP2Limits = HTTP2Limits()) throws { server = try HTTP2ServerSession(limits: limits) }

  func exchange(_ bytes: [UInt8], _ next: (ReceivedCall) -> CollectorAnswer) throws -> [UInt8] {
    try bytes.withUnsafeBytes { try server.receive($0) }
    for request in server.takeRequests() {
      let call = GRPCServerCall(request)
      try answer(call, next(try FakeCollector.read(request)))
    }
    var out = ByteBuffer()
    repeat { try server.output(into: &out) } while server.wantsOutput
    return out.bytes
  }

  private static func read(_ request: HTTP2Exchange) throws -> ReceivedCall {
    let body = request.body.readable
    switch GRPCFrame.read(body) {
    case .message(let range):
      return ReceivedCall(head: request.head, message: Array(body.slice(range)), wasCompressed: false)
    case .compressed(let range):
      #expect(request.head.first("grpc-encoding")?.text == "gzip")
      return ReceivedCall(head: request.head, message: try inflate(body.slice(range)), wasCompressed: true)
    default: return ReceivedCall(head: request.head, message: [], wasCompressed: false)
    }
  }

  private func answer(_ call: GRPCServerCall, _ answer: CollectorAnswer) throws {
    switch answer {
    case .ok: try succeed(call, [0x0a, 0x00])
    case .partial(let rejected, let text): try succeed(call, partialSuccess(rejected, text))
    case .status(let code, let text, let details):
      try call.fail(on: server, GRPCStatus(code, text), details: details)
    case .http(let status, _, _):
      let head = HTTP2Fields()
      head.append(":status", String(status))
      try server.respond(to: call.exchange, head: head)
    case .reset(let code): try server.reset(call.exchange, code: code)
    case .stall, .raw: break
    case .close: isClosed = true
    case .goAway: try server.goAway(lastStreamID: call.exchange.streamID - 2)
    case .okAndGoAway:
      try succeed(call, [])
      try server.goAway()
    }
  }

  private func succeed(_ call: GRPCServerCall, _ message: [UInt8]) throws {
    try message.withUnsafeBytes { try call.succeed(on: server, message: $0) }
  }
}

/// What gzip data expands to.
func inflate(_ bytes: UnsafeRawBufferPointer) throws -> [UInt8] {
  let inflater = try GzipInflater(outputBytesMax: 16 << 20)
  var out = ByteBuffer()
  try inflater.receive(bytes, into: &out)
  try inflater.finish()
  return out.bytes
}

/// An OTLP/HTTP receiver.
final class FakeHTTPCollector: Collector {
  private(set) var isClosed = false
  private var input: [UInt8] = []

  func exchange(_ bytes: [UInt8], _ next: (ReceivedCall) -> CollectorAnswer) throws -> [UInt8] {
    input += bytes
    var out: [UInt8] = []
    while let call = try takeRequest() { out += reply(next(call)) }
    return out
  }

  private func takeRequest() throws -> ReceivedCall? {
    let end = Array("\r\n\r\n".utf8)
    guard let split = input.indices.first(where: { input[$0...].starts(with: end) }) else { return nil }
    let lines = String(decoding: input[..<split], as: UTF8.self).split(separator: "\r\n")
    let head = HTTP2Fields()
    head.append(":request", String(lines.first ?? ""))
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      head.append("\(parts[0])", String(parts[1].drop { $0 == " " }))
    }
    let length = try #require(head.first("content-length")?.decimal)
    guard input.count >= split + 4 + length else { return nil }
    let body = Array(input[(split + 4)..<(split + 4 + length)])
    input.removeFirst(split + 4 + length)
    let isCompressed = head.first("content-encoding")?.text == "gzip"
    let message = isCompressed ? try body.withUnsafeBytes { try inflate($0) } : body
    return ReceivedCall(head: head, message: message, wasCompressed: isCompressed)
  }

  private func reply(_ answer: CollectorAnswer) -> [UInt8] {
    switch answer {
    case .ok: return http(200, "content-type: application/x-protobuf\r\n", [0x0a, 0x00])
    case .partial(let rejected, let text):
      return http(200, "content-type: application/x-protobuf\r\n", partialSuccess(rejected, text))
    case .http(let status, let lines, let body): return http(status, lines, body)
    case .raw(let bytes): return bytes
    case .close: isClosed = true
    case .okAndGoAway: return http(200, "connection: close\r\n", [])
    case .stall, .status, .reset, .goAway: break
    }
    return []
  }

  private func http(_ status: Int, _ lines: String, _ body: [UInt8]) -> [UInt8] {
    Array("HTTP/1.1 \(status) X\r\ncontent-length: \(body.count)\r\n\(lines)\r\n".utf8) + body
  }
}

/// Hands out descriptors of the fake kernel, or failures, as scripted.
final class ScriptedDialer: ExporterDialer {
  struct Script {
    var resolves = true
    var addressCount = 1
    /// Errors of the next connects, 0 for success.
    var errors: [Int32] = []
    var nextDescriptor: Int32 = 100
    var dialed: [Int32] = []
  }

  let script = Mutex(Script())

  func resolve(host: String, port: UInt16) -> [SocketAddress] {
    let count = script.withLock { $0.resolves ? $0.addressCount : 0 }
    return (0..<count).flatMap { SocketAddress.resolve(host: "127.0.0.\($0 + 1)", port: port) }
  }

  func connect(_ address: SocketAddress) throws(SystemError) -> Int32 {
    let (descriptor, error) = script.withLock { script in
      let error = script.errors.isEmpty ? 0 : script.errors.removeFirst()
      if error == 0 {
        script.nextDescriptor += 1
        script.dialed.append(script.nextDescriptor)
      }
      return (script.nextDescriptor, error)
    }
    if error != 0 { throw SystemError("connect", error) }
    return descriptor
  }
}

/// Everything one test needs; single-threaded, with time in the test's hand.
final class Rig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let dialer = ScriptedDialer()
  let ledger = SpanLedger()
  let queue: ExportQueue
  let driver: ExportDriver
  let status = ExporterStatus()
  let lines = CapturedLines()
  /// Answers of the coming calls; when used up, calls are answered OK.
  var answers: [CollectorAnswer] = []
  /// Errors of the coming connects as the socket reports them; none means connected.
  var connectErrors: [Int32] = []
  /// False leaves connects hanging.
  var connects = true
  var serverLimits = HTTP2Limits()
  /// Span counts of the messages that arrived.
  private(set) var messages: [Int] = []
  private(set) var heads: [HTTP2Fields] = []
  private(set) var messageBytes: [Int] = []
  private(set) var wasCompressed: [Bool] = []
  private var collectors: [Int32: any Collector] = [:]
  private let configuration: ExporterConfiguration

  init(_ change: (inout ExporterConfiguration) -> Void = { _ in }) throws {
    var configuration = ExporterConfiguration(version: "1.0")
    configuration.retry.jitter = 0
    // Fewer than by default, so that a test's batch of 512 goes at once.
    configuration.queue.spansDue = 512
    change(&configuration)
    self.configuration = configuration
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    queue = ExportQueue(limits: configuration.queue, ledger: ledger)
    let lines = lines
    let logger = Logger(label: "test") { _ in CapturingHandler(lines: lines) }
    let finished = Box()
    driver = ExportDriver(
      loop: loop, queue: queue, ledger: ledger, configuration: configuration,
      resource: TelemetryResource(serviceName: "test", serviceVersion: "1", instanceID: "id"),
      dialer: dialer, status: status, logger: logger, onFinish: { finished.value = true })
    self.finished = finished
  }

  deinit {
    driver.finish()
    loop.close()
  }

  private final class Box { var value = false }
  private let finished: Box
  var isFinished: Bool { finished.value }
  var state: ExporterState { status.snapshot }
  var dialed: [Int32] { dialer.script.withLock { $0.dialed } }
  var calls: Int { messages.count }

  /// Publishes a batch as a loop would, with the wake-up that follows.
  func publish(_ spans: Int, spanBytes: Int = 100) {
    ledger.recordMade(spans)
    if case .wake = queue.put(batch(spans, spanBytes: spanBytes)) { driver.pump() }
  }

  /// Lets both sides talk until nothing moves.
  func settle() throws {
    var moved = true
    while moved {
      moved = false
      // What was asked for outside a wake-up leaves at the end of the next one.
      loop.turn(patience: 0)
      for descriptor in dialed where !kernel.closed.contains(descriptor) {
        if collectors[descriptor] == nil {
          guard connects else { continue }
          collectors[descriptor] = try collector()
          if !connectErrors.isEmpty {
            let code = connectErrors.removeFirst()
            if code != 0 { kernel.connectErrors[descriptor] = code }
          }
          kernel.queue([(descriptor, .writable)])
          moved = true
        }
        moved = try relay(descriptor) || moved
      }
    }
  }

  private func relay(_ descriptor: Int32) throws -> Bool {
    let bytes = kernel.takeOutput(descriptor)
    guard let collector = collectors[descriptor], !bytes.isEmpty else { return false }
    let reply = try collector.exchange(bytes) { call in
      note(call)
      return answers.isEmpty ? .ok : answers.removeFirst()
    }
    if !reply.isEmpty, !collector.isClosed { kernel.input[descriptor, default: []].append(reply) }
    if collector.isClosed { hangUp(descriptor) }
    kernel.queue([(descriptor, collector.isClosed ? .peerClosed : .readable)])
    return true
  }

  /// Ends a connection from the collector's side; the exporter sees it at the next ``settle()``.
  func hangUp(_ descriptor: Int32) {
    kernel.input[descriptor, default: []].append([])
    kernel.queue([(descriptor, .peerClosed)])
  }

  private func collector() throws -> any Collector {
    switch configuration.transport {
    case .grpc: try FakeCollector(serverLimits)
    case .http: FakeHTTPCollector()
    }
  }

  private func note(_ call: ReceivedCall) {
    messages.append(call.message.withUnsafeBytes { spanCount($0) })
    messageBytes.append(call.message.count)
    heads.append(call.head)
    wasCompressed.append(call.wasCompressed)
  }

  /// Lets time pass, in steps so that timers fire in order, and settles after each.
  func pass(_ time: Nanoseconds, step: Nanoseconds = 100 * millisecond) throws {
    let end = kernel.time + time
    while kernel.time < end {
      kernel.time = min(kernel.time + step, end)
      loop.turn(patience: 0)
      try settle()
    }
  }

  /// The books balance: everything made is sent, dropped, waiting or in hand.
  func expectBalanced(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(ledger.pending == 0, sourceLocation: sourceLocation)
  }
}

extension Rig {
  /// An exporter that speaks OTLP/HTTP.
  static func http(_ change: (inout ExporterConfiguration) -> Void = { _ in }) throws -> Rig {
    try Rig { configuration in
      configuration.transport = .http
      configuration.method.path = "/v1/traces"
      configuration.method.authority = "localhost:4318"
      change(&configuration)
    }
  }

  /// An exporter with an open spool in `folder`, which gives a message up after 5 s.
  static func spooling(to folder: String, _ change: (inout ExporterConfiguration) -> Void = { _ in }) throws
    -> Rig
  {
    let rig = try Rig { configuration in
      configuration.spool = SpoolConfiguration(folder: folder)
      configuration.retry.total = 5 * second
      change(&configuration)
    }
    rig.driver.openSpool()
    return rig
  }
}

/// Log lines as `message key=value ...`.
final class CapturedLines: Sendable {
  private let lines = Mutex<[String]>([])
  private let debugLines = Mutex<[String]>([])
  /// Of level info and above.
  var all: [String] { lines.withLock { $0 } }
  var debug: [String] { debugLines.withLock { $0 } }

  func add(_ line: String, _ level: Logger.Level) {
    if level < .info { debugLines.withLock { $0.append(line) } } else { lines.withLock { $0.append(line) } }
  }
}

struct CapturingHandler: LogHandler {
  let lines: CapturedLines
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.trace

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
    lines.add("\(event.message)" + fields.map { " \($0.key)=\($0.value)" }.joined(), event.level)
  }
}

/// A batch of `count` entries of about `spanBytes` bytes.
func batch(_ count: Int, spanBytes: Int = 100) -> SpanBatch {
  var buffer = ByteBuffer()
  let payload = [UInt8](repeating: 0x61, count: max(0, spanBytes - 8))
  for _ in 0..<count {
    let mark = buffer.beginMessage(field: 2)
    buffer.append(field: 5, string: String(decoding: payload, as: UTF8.self))
    buffer.endMessage(mark)
  }
  return SpanBatch(bytes: FrozenBytes(buffer), spanCount: count)
}

/// Spans in an ExportTraceServiceRequest.
func spanCount(_ message: UnsafeRawBufferPointer) -> Int {
  var count = 0
  each(message, 1) { resourceSpans in
    each(resourceSpans, 2) { scopeSpans in
      each(scopeSpans, 2) { _ in count += 1 }
    }
  }
  return count
}

private func each(
  _ message: UnsafeRawBufferPointer, _ number: Int, _ body: (UnsafeRawBufferPointer) -> Void
) {
  var reader = ProtobufReader(message)
  while let field = try? reader.next() {
    if field.number == number, let bytes = field.bytes { body(bytes) }
  }
}

/// ExportTraceServiceResponse with a partial success.
func partialSuccess(_ rejected: Int, _ text: String) -> [UInt8] {
  var out = ByteBuffer()
  let mark = out.beginMessage(field: 1)
  out.append(field: 1, varint: UInt64(rejected))
  out.append(field: 2, string: text)
  out.endMessage(mark)
  return out.bytes
}

/// A google.rpc.Status with RetryInfo.
func retryInfo(seconds: UInt64, nanos: UInt64 = 0) -> [UInt8] {
  var out = ByteBuffer()
  out.append(field: 1, varint: 8)
  let detail = out.beginMessage(field: 3)
  out.append(field: 1, string: "type.googleapis.com/google.rpc.RetryInfo")
  let info = out.beginMessage(field: 2)
  let duration = out.beginMessage(field: 1)
  out.append(field: 1, varint: seconds)
  if nanos > 0 { out.append(field: 2, varint: nanos) }
  out.endMessage(duration)
  out.endMessage(info)
  out.endMessage(detail)
  return out.bytes
}
