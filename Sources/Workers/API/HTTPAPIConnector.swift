// Requests to a discovery service over HTTP/1.1, by TLS where its URL says so.

internal import Base
internal import EventLoop
internal import HTTP
internal import TLS
internal import Transport

/// The real connector. Names are looked up on the resolver's thread, and again after a failure.
final class HTTPAPIConnector: APIConnector {
  private let servers: [WorkerURL]
  private let context: TLSContext?
  private let resolver: NameResolver
  private let asked: UpstreamPool
  private let streams: UpstreamPool
  private var upstreams: [Int: Upstream] = [:]
  private var calls: [ObjectIdentifier: HTTPAPICall] = [:]

  /// `context` is needed where a URL is of `https`. `resolver` is closed with this. A server that takes longer than
  /// `silence` to be connected to, or to answer what is not followed by lines, has failed. The default is longer than etcd
  /// itself waits for its peers, so that its own word on them is heard.
  init(
    _ servers: [WorkerURL], context: TLSContext?, loop: EventLoop, resolver: NameResolver,
    silence: Nanoseconds = 8 * second
  ) {
    self.servers = servers
    self.context = context
    self.resolver = resolver
    var limits = ClientLimits()
    limits.connectTimeout = min(limits.connectTimeout, silence)
    // Nothing may come on them for hours: a server that lost its power would never be missed.
    limits.keepAliveSeconds = 10
    streams = UpstreamPool(loop: loop, limits: limits)
    limits.keepAliveSeconds = 0
    limits.silenceTimeout = silence
    limits.idleTimeout = 30 * second
    asked = UpstreamPool(loop: loop, limits: limits)
  }

  var serverCount: Int { servers.count }

  func send(
    _ request: APIRequest, to server: Int, lines: ((UnsafeRawBufferPointer) -> Void)?,
    _ done: @escaping (APIOutcome) -> Void
  ) -> any APICall {
    let call = HTTPAPICall(request, lines: lines) { [weak self] call, outcome in
      // The name may point elsewhere by now.
      if case .failed = outcome { self?.upstreams[server] = nil }
      done(outcome)
    }
    calls[ObjectIdentifier(call)] = call
    call.ended = { [weak self] in self?.calls[$0] = nil }
    let pool = lines == nil ? asked : streams
    if let upstream = upstreams[server] {
      call.send(to: upstream, pool)
    } else {
      resolver.addresses(of: servers[server]) { [weak self, weak call] addresses in
        guard let self, let call else { return }
        let upstream = upstream(server, addresses)
        if !addresses.isEmpty { upstreams[server] = upstream }
        call.send(to: upstream, pool)
      }
    }
    return call
  }

  private func upstream(_ server: Int, _ addresses: [SocketAddress]) -> Upstream {
    let url = servers[server]
    return Upstream(
      id: UInt64(server), addresses: addresses, authority: url.authority, pathPrefix: url.pathPrefix,
      security: url.isSecure
        ? context.map {
          SocketSecurity($0, serverName: url.host, counters: HandshakeCounters(), timeout: 5 * second)
        } : nil)
  }

  func close() {
    for call in calls.values { call.cancel() }
    calls = [:]
    asked.closeIdle()
    streams.closeIdle()
    resolver.close()
  }
}

/// One request under way; ends once.
private final class HTTPAPICall: APICall, ClientExchangeHandler {
  /// Bytes of a body that are kept, and of one line.
  private static let bodyBytesMax = 16 << 20

  private let request: APIRequest
  private let lines: ((UnsafeRawBufferPointer) -> Void)?
  private var done: ((HTTPAPICall, APIOutcome) -> Void)?
  private var exchange: UpstreamExchange?
  private var pool: UpstreamPool?
  private var upstream: Upstream?
  private var status = 0
  private var body = ByteBuffer()
  private var isRepeated = false
  /// Called once, when it ended in whatever way.
  var ended: ((ObjectIdentifier) -> Void)?

  init(
    _ request: APIRequest, lines: ((UnsafeRawBufferPointer) -> Void)?,
    _ done: @escaping (HTTPAPICall, APIOutcome) -> Void
  ) {
    self.request = request
    self.lines = lines
    self.done = done
  }

  func send(to upstream: Upstream, _ pool: UpstreamPool) {
    guard done != nil else { return }
    self.pool = pool
    self.upstream = upstream
    exchange = pool.send(to: upstream, method: request.method, fresh: isRepeated, handler: self) { out in
      out.append(request.method == .get ? "GET " : "POST " as StaticString)
      out.append(upstream.pathPrefix)
      out.append(request.path)
      out.append(" HTTP/1.1\r\n" as StaticString)
      upstream.authority.withUnsafeBytes { out.header("host", $0) }
      for header in request.headers {
        out.append(header.name)
        out.append(": " as StaticString)
        out.append(header.value)
        out.append("\r\n" as StaticString)
      }
      if let body = request.body {
        out.append("content-type: application/json\r\ncontent-length: " as StaticString)
        out.append(decimal: body.utf8.count)
        out.append("\r\n" as StaticString)
      }
      out.endHead()
      if let body = request.body { out.append(body) }
    }
  }

  func cancel() {
    // Who keeps it lets it go, and it may be cancelled by what its own line meant.
    withExtendedLifetime(self) {
      done = nil
      exchange?.cancel()
      exchange = nil
      leave()
    }
  }

  private func leave() {
    let ended = ended
    self.ended = nil
    ended?(ObjectIdentifier(self))
  }

  private func end(_ outcome: APIOutcome) {
    guard let done else { return }
    self.done = nil
    exchange = nil
    leave()
    done(self, outcome)
  }

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body bytes: UnsafeRawBufferPointer) {
    body.append(bytes)
    if status == 200, let lines { withExtendedLifetime(self) { handOn(lines) } }
    guard body.count > Self.bodyBytesMax else { return }
    exchange?.cancel()
    end(.failed("its answer is too long"))
  }

  private func handOn(_ lines: (UnsafeRawBufferPointer) -> Void) {
    while done != nil, let length = body.readable.firstIndex(of: UInt8(ascii: "\n")) {
      lines(body.readable.slice(0..<length))
      // What a line meant may have cancelled this call.
      if done != nil { body.consume(length + 1) }
    }
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) { end(.answered(status: status, body: body.bytes)) }

  func failed(_ failure: UpstreamFailure) {
    // A kept connection that the server had closed says nothing about the server.
    if case .stale = failure, !isRepeated, let pool, let upstream {
      isRepeated = true
      send(to: upstream, pool)
      return
    }
    switch failure {
    case .connect(let error): end(.failed("\(error)"))
    case .connectTimeout: end(.failed("connect: timed out"))
    case .silent: end(.failed("it does not answer"))
    case .stale, .broken: end(.failed("it closed the connection"))
    case .malformed, .protocolError, .busy: end(.failed("it does not speak HTTP/1.1"))
    }
  }
}
