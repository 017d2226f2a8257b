// The Kubernetes API server as a source: EndpointSlices are listed once, then watched from that version on.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON

/// Follows the endpoints of workers' services. Loop-confined.
///
///     listing ──▶ watching ──▶ watching again from the last version      (the server ends each watch in time)
///        ▲            ├──410──▶ listing                                   (the version is forgotten)
///        └── resting ◀┘ any failure, from listing too
final class EndpointSliceSource: DiscoverySource, TimerHandler {
  private static let pageSize = 500
  /// The server ends a watch after this many seconds; one that it does not end is dead.
  private static let watchSeconds = 60
  private static let watchDeadline = 75 * second

  let kind = WorkerSource.kubernetes
  private let settings: KubernetesSettings
  private let connector: any APIConnector
  private let loop: EventLoop
  private weak var sink: (any DiscoverySink)?
  private let timer = Timer()
  private var slices: EndpointSlices
  private var version = ""
  private var backoff = APIBackoff()
  private var call: (any APICall)?
  /// Answers to an attempt that was given up are not heard.
  private var attempt = 0
  private var isWatching = false
  private var hasHeard = false
  /// Versions in a row that were forgotten before a watch said anything.
  private var gone = 0

  init(_ settings: KubernetesSettings, connector: any APIConnector, on loop: EventLoop) {
    self.settings = settings
    self.connector = connector
    self.loop = loop
    slices = EndpointSlices(portName: settings.portName)
  }

  func start(_ sink: any DiscoverySink) {
    self.sink = sink
    list()
  }

  func close() {
    attempt += 1
    loop.cancel(timer)
    connector.close()
  }

  func timerFired(_ timer: Timer) {
    if isWatching { failed("its watch is silent") } else { list() }
  }

  // MARK: Requests

  private func get(
    _ query: String, lines: ((UnsafeRawBufferPointer) -> Void)? = nil,
    _ done: @escaping (EndpointSliceSource, APIOutcome) -> Void
  ) {
    let selector = Self.escaped(settings.labelSelector)
    let namespace = settings.namespace ?? "default"
    var request = APIRequest(
      method: .get,
      path:
        "/apis/discovery.k8s.io/v1/namespaces/\(namespace)/endpointslices?labelSelector=\(selector)&\(query)")
    request.headers = [("accept", "application/json")]
    if let token = settings.token() { request.headers.append(("authorization", "Bearer \(token)")) }
    let attempt = attempt
    call = connector.send(request, to: 0, lines: lines) { [weak self] outcome in
      guard let self, attempt == self.attempt else { return }
      call = nil
      done(self, outcome)
    }
  }

  /// RFC 3986's unreserved characters as they are, all others escaped.
  private static func escaped(_ text: String) -> String {
    var out = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        out.unicodeScalars.append(Unicode.Scalar(byte))
      default: out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return out
  }

  // MARK: Listing

  private func list() {
    attempt += 1
    isWatching = false
    page(nil, EndpointSlices(portName: settings.portName), retries: 1)
  }

  /// `retries` is how often a list whose continuation ended may begin anew.
  private func page(_ token: String?, _ read: EndpointSlices, retries: Int) {
    get("limit=\(Self.pageSize)" + (token.map { "&continue=\(Self.escaped($0))" } ?? "")) { this, outcome in
      guard case .answered(let status, let body) = outcome else { return this.failed(outcome) }
      if status == 410, token != nil, retries > 0 {
        return this.page(nil, EndpointSlices(portName: this.settings.portName), retries: retries - 1)
      }
      guard status == 200, let answer = body.withUnsafeBytes({ Self.parse($0) }),
        let version = answer["metadata"]?["resourceVersion"]?.string
      else { return this.failed(outcome) }
      var read = read
      for slice in answer["items"]?.array ?? [] { read.put(slice) }
      if let next = answer["metadata"]?["continue"]?.string, !next.isEmpty {
        return this.page(next, read, retries: retries)
      }
      this.slices = read
      this.version = version
      this.sink?.found(servers: read.servers)
      this.watch()
    }
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer) -> JSONValue? {
    try? JSONValue.parse(bytes, valuesMax: 1 << 20)
  }

  // MARK: Watching

  private func watch() {
    attempt += 1
    isWatching = true
    hasHeard = false
    loop.arm(timer, at: loop.now + Self.watchDeadline, self)
    let attempt = attempt
    get(
      "watch=1&allowWatchBookmarks=true&timeoutSeconds=\(Self.watchSeconds)&resourceVersion=\(Self.escaped(version))",
      lines: { [weak self] line in
        if let self, attempt == self.attempt, !line.isEmpty { received(line) }
      }
    ) { this, outcome in
      switch outcome {
      case .answered(200, _): this.watchEnded()
      case .answered(410, _): this.versionIsGone()
      default: this.failed(outcome)
      }
    }
  }

  /// All is listed anew: at once the first time.
  private func versionIsGone() {
    gone += 1
    if gone > 1 { failed("it forgets versions as soon as it has told them") } else { list() }
  }

  /// In time, as asked for; a server that ends them at once is not asked again at once.
  private func watchEnded() {
    let isEarly = !hasHeard && loop.now + Self.watchDeadline < timer.deadline + 5 * second
    if isEarly { return failed("it ends its watches at once") }
    // A watch that ran its time worked, though nothing happened in it.
    gone = 0
    watch()
  }

  private func received(_ line: UnsafeRawBufferPointer) {
    guard let event = Self.parse(line), let type = event["type"]?.string, let object = event["object"] else {
      return failed("its watch said what cannot be read")
    }
    if type == "ERROR" {
      call?.cancel()
      if object["code"]?.integer == 410 { return versionIsGone() }
      return failed("its watch failed: \(object["message"]?.string?.prefix(200) ?? "no reason")")
    }
    hasHeard = true
    gone = 0
    backoff.reset()
    if let version = object["metadata"]?["resourceVersion"]?.string { self.version = version }
    switch type {
    case "ADDED", "MODIFIED": slices.put(object)
    case "DELETED": slices.remove(object)
    // A bookmark tells of the version alone.
    default: return
    }
    sink?.found(servers: slices.servers)
  }

  // MARK: Failures

  private func failed(_ outcome: APIOutcome) {
    switch outcome {
    case .failed(let reason): failed(reason)
    case .answered(let status, let body):
      let message = body.withUnsafeBytes { Self.parse($0) }?["message"]?.string
      failed("it answered with status \(status)" + (message.map { ": \($0.prefix(200))" } ?? ""))
    }
  }

  private func failed(_ reason: String) {
    attempt += 1
    isWatching = false
    call?.cancel()
    call = nil
    sink?.sourceFailed("\(settings.server ?? "the API server"): \(reason)")
    loop.arm(timer, at: loop.now + backoff.next(&loop.random), self)
  }
}
