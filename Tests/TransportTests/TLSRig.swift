// Servers and clients of this room on a played kernel, with TLS, and the other end of it in the test's hand.

import Base
import EventLoop
import HTTP
import TLS
import TestSupport

@testable import Transport

/// The other end of a socket of the played kernel.
final class TLSPeer {
  let kernel: FakeKernel
  let socket: Int32
  let connection: TLSConnection
  private(set) var received: [UInt8] = []
  private(set) var failure: TLSError?
  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 * 1024, alignment: 16)

  init(_ kernel: FakeKernel, _ socket: Int32, _ context: TLSContext, serverName: String? = nil) throws {
    self.kernel = kernel
    self.socket = socket
    connection = try TLSConnection(context, serverName: serverName)
    if !context.isServer { try connection.start() }
  }

  deinit { room.deallocate() }

  func send(_ text: String) throws {
    try Array(text.utf8).withUnsafeBytes { try connection.send($0) }
  }

  /// Takes what the socket sent, and gives it this end's bytes, `step` at a time. False when there was nothing.
  func exchange(step: Int = 1 << 20) -> Bool {
    let came = kernel.takeOutput(socket)
    if !came.isEmpty {
      do {
        try came.withUnsafeBytes { raw in
          try connection.receive(raw, into: room) { piece in
            received += piece
            return true
          }
        }
      } catch {
        failure = error as? TLSError
      }
    }
    var bytes = connection.outgoing.bytes[...]
    connection.outgoing.removeAll()
    guard !bytes.isEmpty else { return !came.isEmpty }
    while !bytes.isEmpty {
      kernel.input[socket, default: []].append(Array(bytes.prefix(step)))
      bytes = bytes.dropFirst(step)
      // A short read ends the drain, so that each piece has an event of its own.
      kernel.queue([(socket, .readable)])
    }
    return true
  }

  var text: String { String(decoding: received, as: UTF8.self) }
}

/// Files and contexts for both ends.
struct TLSSetting {
  let authority: TestAuthority
  let server: TLSContext
  let client: TLSContext
  let counters = HandshakeCounters()

  /// The ALPN names that either end knows.
  init(server spoken: [String] = ["http/1.1"], client offered: [String] = ["http/1.1"]) throws {
    authority = try TestAuthority()
    let files = try authority.issue()
    server = try TLSContext(
      server: TLSIdentity(certificatePath: files.certificate, keyPath: files.key), protocols: spoken)
    client = try TLSContext(clientTrusting: .file(authority.path), protocols: offered)
  }

  /// Counts of outcomes that are not 0.
  var outcomes: [String: Int] {
    Dictionary(uniqueKeysWithValues: counters.outcomes.filter { $0.count > 0 }.map { ($0.label, $0.count) })
  }
}

/// A server with TLS and one caller.
final class SecureServerRig {
  let rig: ServerRig
  let setting: TLSSetting
  let peer: TLSPeer

  init(limits: ServerLimits = ServerLimits()) throws {
    setting = try TLSSetting()
    rig = try ServerRig(
      limits: limits, security: SocketSecurity(setting.server, counters: setting.counters))
    peer = try TLSPeer(rig.kernel, rig.caller, setting.client, serverName: "localhost")
  }

  func settle(step: Int = 1 << 20) {
    repeat { rig.turn() } while rig.kernel.hasEvents || peer.exchange(step: step)
  }

  /// One request with its answer taken.
  func ask(_ text: String, step: Int = 1 << 20) throws {
    settle(step: step)
    try peer.send(text)
    settle(step: step)
  }
}

/// A pool whose worker speaks TLS.
final class SecureClientRig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let pool: UpstreamPool
  let setting: TLSSetting
  let socket: Int32 = 101
  var peer: TLSPeer
  private let upstream: Upstream
  private var connections: [UpstreamExchange] = []

  init(name: String = "localhost", roots: TestAuthority? = nil) throws {
    setting = try TLSSetting()
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    let socket = socket
    pool = UpstreamPool(loop: loop, limits: ClientLimits(), dial: { _ in socket })
    let context =
      try roots.map { try TLSContext(clientTrusting: .file($0.path), protocols: []) } ?? setting.client
    upstream = Upstream(
      id: 7, addresses: SocketAddress.resolve(host: "127.0.0.1", port: 9), authority: "localhost:9",
      security: SocketSecurity(context, serverName: name, counters: setting.counters))
    peer = try TLSPeer(kernel, socket, setting.server)
  }

  deinit {
    pool.closeIdle()
    for connection in connections { connection.cancel() }
    loop.close()
  }

  func send(to handler: any ClientExchangeHandler) -> UpstreamExchange {
    let connection = pool.send(to: upstream, method: .post, handler: handler) { output in
      output.append("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" as StaticString)
    }
    connections.append(connection)
    loop.turn(patience: 0)
    return connection
  }

  func connected() {
    kernel.queue([(socket, .writable)])
    loop.turn(patience: 0)
  }

  func settle(step: Int = 1 << 20) {
    repeat { loop.turn(patience: 0) } while kernel.hasEvents || peer.exchange(step: step)
  }

  func reply(_ text: String) throws {
    try peer.send(text)
    settle()
  }

  /// The worker's TCP connection ends.
  func hangUp() {
    kernel.input[socket, default: []].append([])
    kernel.queue([(socket, .peerClosed)])
    loop.turn(patience: 0)
  }
}
