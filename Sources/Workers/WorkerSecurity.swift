// TLS to workers of https URLs: whom to trust, what to show them, and how the handshakes went.

package import Base
internal import Synchronization
package import Telemetry
internal import TLS
package import Transport

/// How `https://` workers are verified.
package struct WorkerSecurityConfiguration: Sendable {
  /// A PEM file of authorities, trusted and no others; nil for the machine's own.
  package var rootsPath: String?
  /// Shown to workers that ask for a certificate: certificate chain and key, PEM files.
  package var identity: (certificatePath: String, keyPath: String)?
  /// From the connection to the handshake's end; the connect deadline covers it too.
  package var handshakeTimeout: Nanoseconds = 10 * second

  package init() {}
}

/// The TLS context of all connections to workers, made when files are named or when the first `https://` worker comes:
/// a frontend without either does not start the library.
final class WorkerSecurity: Sendable {
  private let configuration: WorkerSecurityConfiguration
  private let context = Mutex<TLSContext?>(nil)
  let counters = HandshakeCounters()

  /// Reads the files that are named; throws ``TLSError`` with the one that cannot be used.
  init(_ configuration: WorkerSecurityConfiguration) throws(TLSError) {
    self.configuration = configuration
    if configuration.rootsPath != nil || configuration.identity != nil { try prepare() }
  }

  /// True once there are, or may be, handshakes to tell of.
  var isInUse: Bool { context.withLock { $0 != nil } }

  /// Makes the context. To be called before a worker of an `https://` URL is taken in.
  func prepare() throws(TLSError) {
    try context.withLock { context throws(TLSError) in
      if context == nil { context = try makeContext() }
    }
  }

  /// Reads the files again, and returns what puts them into force for connections from then on; nil where TLS is not in
  /// use. Throws ``TLSError`` with the file that cannot be used; then nothing changes.
  func prepareAnew() throws(TLSError) -> (@Sendable () -> Void)? {
    guard isInUse else { return nil }
    let new = try makeContext()
    return { self.context.withLock { $0 = new } }
  }

  private func makeContext() throws(TLSError) -> TLSContext {
    try TLSContext(
      clientTrusting: configuration.rootsPath.map { .file($0) } ?? .system,
      identity: configuration.identity.map {
        TLSIdentity(certificatePath: $0.certificatePath, keyPath: $0.keyPath)
      },
      // A worker that speaks both is spoken to by HTTP/2.
      protocols: ["h2", "http/1.1"])
  }

  /// TLS to the worker of `url`; nil for plain text. `name` is what its certificate must say, where that is not the
  /// URL's host.
  func security(of url: WorkerURL, name: String? = nil) -> SocketSecurity? {
    guard url.isSecure else { return nil }
    guard let context = context.withLock({ $0 }) else {
      preconditionFailure("TLS is prepared before a worker of an https URL is taken in")
    }
    return SocketSecurity(
      context, serverName: name ?? url.host, counters: counters, timeout: configuration.handshakeTimeout)
  }

  /// `old` by the certificates of now: nil where it is that already. Sessions are not taken over, for they were verified
  /// by the old ones.
  func renewed(_ old: SocketSecurity) -> SocketSecurity? {
    guard let context = context.withLock({ $0 }), context !== old.context else { return nil }
    return SocketSecurity(
      context, serverName: old.serverName, counters: counters, timeout: configuration.handshakeTimeout)
  }
}

extension HandshakeCounters {
  /// Adds every outcome; `peer` says whose handshakes they are.
  package func add(to samples: inout MetricSamples, peer: String) {
    for (label, count) in outcomes {
      samples.add(Double(count), labels: [("peer", peer), ("outcome", label)])
    }
  }

  /// Adds how many took up an earlier session.
  package func addResumed(to samples: inout MetricSamples, peer: String) {
    samples.add(Double(resumed), labels: [("peer", peer)])
  }
}
