// What a client remembers of its earlier connections to one server, to shake hands faster the next time.

internal import COpenSSL
internal import Synchronization

/// Sessions that one server gave out, for connections with the same trust and to the same name: a resumed handshake
/// verifies no certificate again (RFC 8446 section 2.2), so they must not be shared any further.
///
/// A session of TLS 1.3 is used once (RFC 8446 appendix C.4), one of TLS 1.2 until the server gives another. Shared by all
/// loops; asked for once a connection.
package final class TLSSessions: Sendable {
  /// Sessions kept; the oldest goes first. A server gives two a connection, as a rule, of some 2 KiB each.
  package static let countMax = 8

  private let kept = Mutex<[Kept]>([])

  package init() {}

  /// Number of sessions that wait for a connection.
  package var count: Int { kept.withLock { $0.count } }

  /// Keeps `session`, whose reference the caller gives away.
  fileprivate func keep(_ session: OpaquePointer) {
    let new = Kept(session)
    kept.withLock { kept in
      // Of TLS 1.2 the newest is enough: it is not used up.
      if !new.isUsedOnce { kept.removeAll { !$0.isUsedOnce } }
      kept.append(new)
      if kept.count > Self.countMax { kept.removeFirst() }
    }
  }

  /// Has `connection`, which has not begun, offer the newest session.
  func offer(on connection: OpaquePointer) {
    let session = kept.withLock { kept in
      // One whose connection broke is of no use any more.
      kept.removeAll { SSL_SESSION_is_resumable($0.handle) != 1 }
      guard let last = kept.last, last.isUsedOnce else { return kept.last }
      return kept.removeLast()
    }
    // The connection takes a reference of its own; without it, for want of memory, the handshake is a full one.
    guard let session, SSL_set_session(connection, session.handle) != 1 else { return }
    ERR_clear_error()
  }

  /// Has connections of `context` hand over the sessions that they are given.
  static func collect(from context: OpaquePointer) {
    copenssl_set_session_cache_mode(context, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
    SSL_CTX_sess_set_new_cb(context) { connection, session in
      guard let connection, let session, let owner = SSL_get_ex_data(connection, 0) else { return 0 }
      // Unretained: the connection's owner retains it while the library is called.
      Unmanaged<TLSSessions>.fromOpaque(owner).takeUnretainedValue().keep(session)
      return 1
    }
  }

  /// Has `connection`, whose owner must retain this object, give its sessions here.
  func collect(from connection: OpaquePointer) {
    // Index 0 is the application's own.
    _ = SSL_set_ex_data(connection, 0, Unmanaged.passUnretained(self).toOpaque())
  }

  /// An owned session.
  ///
  /// `@unchecked`: the library counts references atomically, and does not change a session that was given out.
  private final class Kept: @unchecked Sendable {
    let handle: OpaquePointer
    let isUsedOnce: Bool

    init(_ handle: OpaquePointer) {
      self.handle = handle
      isUsedOnce = SSL_SESSION_get_protocol_version(handle) >= TLS1_3_VERSION
    }

    deinit { SSL_SESSION_free(handle) }
  }
}
