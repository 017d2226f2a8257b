// The store's one thread: its servers, and the applications that answer on them.

internal import Base
internal import EventLoop
internal import HTTP
internal import Telemetry
internal import Transport

/// Everything that belongs to the store's loop. Loop-confined.
final class StoreLoop: TimerHandler {
  let loop: EventLoop
  let store: SpanStore
  let status: StoreStatus
  /// Where what is taken in is kept beyond the process; nil where it is not.
  var file: StoreFile?
  /// Set once, before the loop runs.
  var queryServer: HTTPServer?
  var otlpServer: HTTPServer?
  var grpcServer: HTTP2Server?
  /// Bytes of OTLP bodies that are being received.
  var bodyBytes = 0
  /// Searches under way.
  let turns: QueryTurns
  private let timer = Timer()

  /// How often traces are looked at for their age.
  private static let expiryInterval = 10 * second

  init(loop: EventLoop, store: SpanStore, status: StoreStatus) {
    self.loop = loop
    self.store = store
    self.status = status
    turns = QueryTurns(loop, status: status)
  }

  /// Begins the clockwork; on the loop's thread.
  func start() { loop.arm(timer, at: loop.now + Self.expiryInterval, self) }

  func timerFired(_ timer: Timer) {
    store.expire(now: loop.now)
    status.update(store) { _ in }
    loop.arm(timer, at: loop.now + Self.expiryInterval, self)
  }

  /// Takes a message of spans in.
  func ingest(
    _ request: UnsafeRawBufferPointer, _ count: (inout StoreStatus.Snapshot) -> Void
  ) throws(IngestError) -> SpanStore.Ingested {
    defer { status.update(store, count) }
    let result = try store.ingest(request, now: loop.now)
    if let file {
      file.append(request)
      let failures = file.failures
      status.update(store) { $0.fileFailures = failures }
    }
    return result
  }

  /// Takes the file's spans in, and keeps what comes from now on in it.
  func adopt(_ file: StoreFile) throws(StoreFileError) {
    try file.load { message in
      // What does not fit any more, or was damaged on the disk, is left out and counted by the store.
      _ = try? store.ingest(message, now: loop.now)
    }
    self.file = file
    status.update(store) { _ in }
  }

  /// Closes everything; the loop ends after this.
  func stop() {
    loop.cancel(timer)
    for server in [queryServer, otlpServer] {
      server?.drain()
      server?.cutAll()
    }
    grpcServer?.closeAll()
    queryServer = nil
    otlpServer = nil
    grpcServer = nil
    loop.stop()
  }
}

/// The application of the query port.
final class QueryApplication: ServerApplication {
  private let routes: QueryRoutes
  private let hosts: AllowedHosts
  private unowned let parent: StoreLoop
  private var body = ByteBuffer()

  init(_ parent: StoreLoop, version: String, hosts: AllowedHosts, registry: MetricRegistry) {
    self.parent = parent
    self.hosts = hosts
    routes = QueryRoutes(
      store: parent.store, version: version, clock: { Machine.monotonicNanoseconds },
      metrics: { registry.write($0, into: &$1) })
  }

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    body.removeAll()
    guard hosts.admit(head.fields.first(.host)) else {
      parent.status.count { $0.hostsRefused += 1 }
      body.append("this name is not answered to: add it to --trace-store-allowed-hosts\n" as StaticString)
      TextAnswer.text(403).send(body.readable, to: exchange)
      return AnsweredRequest.shared
    }
    parent.status.update(parent.store) { $0.queries += 1 }
    switch routes.answer(head, into: &body) {
    case .now(let answer):
      answer.send(body.readable, to: exchange)
      // A large trace is no reason to hold its memory until the next one.
      if body.capacity > 1 << 20 { body.release() }
      return AnsweredRequest.shared
    case .search(let query):
      return parent.turns.begin(StoreScan(query, in: parent.store), for: exchange)
    }
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) { body.append(refusal.message) }
}

/// The application of the OTLP/HTTP port.
final class OTLPApplication: ServerApplication {
  private unowned let parent: StoreLoop

  init(_ parent: StoreLoop) { self.parent = parent }

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    if let fault = OTLPFault.of(head) {
      fault.send(to: exchange, OTLPForm(contentType: head.fields.first(.contentType)) ?? .protobuf)
      return AnsweredRequest.shared
    }
    return OTLPExchange(exchange, head, on: parent)
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) { body.append(refusal.message) }
}
