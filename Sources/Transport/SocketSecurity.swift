// What makes a socket speak TLS, how its handshakes are counted, and why a socket can fail.

package import Base
package import EventLoop
internal import Glibc
internal import Synchronization
package import TLS

/// Why a socket ended by itself.
package enum SocketFailure: Error, Sendable, CustomStringConvertible {
  case system(SystemError)
  case tls(TLSError)

  /// True when this machine could not even try: no descriptors, memory or ports left.
  package var isOurs: Bool {
    guard case .system(let error) = self else { return false }
    return [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL, EAGAIN].contains(error.code)
  }

  package var description: String {
    switch self {
    case .system(let error): "\(error)"
    case .tls(let error): "\(error)"
    }
  }
}

/// TLS for the sockets of one listener or of one peer. Shared by all loops.
package struct SocketSecurity: Sendable {
  package let context: TLSContext
  /// Whom a client means: a DNS name or an IP address; nil for a server.
  package let serverName: String?
  /// What a client remembers of this peer's handshakes; nil for a server.
  let sessions: TLSSessions?
  package let counters: HandshakeCounters
  /// From the connection to the handshake's end.
  package var timeout: Nanoseconds

  package init(
    _ context: TLSContext, serverName: String? = nil, counters: HandshakeCounters,
    timeout: Nanoseconds = 10 * second
  ) {
    self.context = context
    self.serverName = serverName
    sessions = context.isServer ? nil : TLSSessions()
    self.counters = counters
    self.timeout = timeout
  }
}

/// How handshakes ended. Shared by all loops; the number of outcomes is fixed.
package final class HandshakeCounters: Sendable {
  private final class Cell: Sendable {
    let count = Atomic<Int>(0)
  }

  private static let kinds = TLSError.Kind.allCases.filter { $0 != .file && $0 != .truncated }
  private let opened = Cell()
  private let taken = Cell()
  private let failed: [TLSError.Kind: Cell]

  package init() {
    failed = Dictionary(uniqueKeysWithValues: Self.kinds.map { ($0, Cell()) })
  }

  func open(resumed isResumed: Bool) {
    opened.count.add(1, ordering: .relaxed)
    if isResumed { taken.count.add(1, ordering: .relaxed) }
  }

  /// Those of the handshakes that went well that took up an earlier session.
  package var resumed: Int { taken.count.load(ordering: .relaxed) }

  func fail(_ kind: TLSError.Kind) { (failed[kind] ?? failed[.library])?.count.add(1, ordering: .relaxed) }

  /// Every outcome as a label value with its count: `ok`, and the failures by class.
  package var outcomes: [(label: String, count: Int)] {
    [("ok", opened.count.load(ordering: .relaxed))]
      + Self.kinds.map { ($0.rawValue, failed[$0]?.count.load(ordering: .relaxed) ?? 0) }
  }
}
