// One TLS connection without its socket: ciphertext in, ciphertext out, plaintext in, plaintext out.

package import Base
internal import COpenSSL
internal import Glibc

/// Either end of a connection. Confined to one thread at a time.
///
/// ```
/// handshaking ──both Finished──▶ open ──closeSending()──▶ (peer may still send) ──▶ dropped
///      │                          │
///      └──────────fault───────────┴──▶ failed: an alert may wait in `outgoing`
/// ```
///
/// The library reads from the bytes of the present ``receive(_:into:_:)``, all of which that call consumes, and writes
/// into ``outgoing``. An idle connection holds neither, nor a record buffer.
package final class TLSConnection {
  private enum State { case handshaking, open, failed }

  /// Plaintext to hand to one ``send(_:)`` while ``outgoing`` is empty: four records, so that the ciphertext of a large
  /// answer never stands beside all of it.
  package static let sendBytesMax = 64 * 1024
  /// Bytes of ``outgoing`` past which the connection fails: a peer that asks for answers and never takes them.
  package static let outgoingBytesMax = 256 * 1024

  private let context: TLSContext
  /// Where a client's sessions go, and come from.
  private let sessions: TLSSessions?
  /// Owned: freed in `deinit`, with its BIO.
  let handle: OpaquePointer
  private var state = State.handshaking
  private var hasClosedSending = false
  /// What the library may read now; points into the argument of the call that is under way, else empty.
  fileprivate var incoming = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Ciphertext for the peer, in order. Take it from the head.
  package var outgoing = ByteBuffer()
  /// The peer said close_notify: it sends nothing more, and nothing was cut off.
  package private(set) var peerHasClosed = false

  /// Begins a connection; a client's first message waits in ``outgoing`` after ``start()``.
  ///
  /// - Parameter serverName: whom a client means: a DNS name, which is sent too (SNI), or an IP address. The server's
  ///   certificate must name it among its alternative names (RFC 9525; the common name does not count).
  /// - Parameter sessions: for a client, what is known of this server by this context and name.
  package init(
    _ context: TLSContext, serverName: String? = nil, sessions: TLSSessions? = nil
  ) throws(TLSError) {
    self.context = context
    self.sessions = sessions
    ERR_clear_error()
    guard let method = memoryMethod, let handle = SSL_new(context.handle) else { throw .library("SSL_new") }
    self.handle = handle
    guard let bio = BIO_new(method) else { throw .library("BIO_new") }
    // Unretained: this object owns the handle, the handle its BIO, and only this object's methods make it call back.
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    SSL_set_bio(handle, bio, bio)
    if context.isServer {
      SSL_set_accept_state(handle)
    } else {
      SSL_set_connect_state(handle)
      try expect(serverName)
      sessions?.collect(from: handle)
      sessions?.offer(on: handle)
    }
  }

  deinit { SSL_free(handle) }

  private func expect(_ serverName: String?) throws(TLSError) {
    guard let serverName, !serverName.isEmpty, let parameters = SSL_get0_param(handle) else {
      throw TLSError(.library, "a client must say whom it means")
    }
    X509_VERIFY_PARAM_set_hostflags(
      parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
    if X509_VERIFY_PARAM_set1_ip_asc(parameters, serverName) == 1 { return }
    ERR_clear_error()
    // A name is sent and compared without the dot of its root.
    let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
    guard X509_VERIFY_PARAM_set1_host(parameters, name, 0) == 1, copenssl_set_server_name(handle, name) == 1
    else { throw .library("server name") }
  }

  /// True once both sides have finished the handshake.
  package var isOpen: Bool { state == .open }

  /// The application protocol that was agreed upon; nil when none was.
  package var applicationProtocol: String? {
    var name: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(handle, &name, &count)
    guard let name, count > 0 else { return nil }
    return String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
  }

  /// `TLSv1.2` or `TLSv1.3`, once the handshake has come that far.
  package var version: String { SSL_get_version(handle).map { String(cString: $0) } ?? "" }

  /// True when this handshake took up an earlier session.
  package var isResumed: Bool { SSL_session_reused(handle) == 1 }

  /// Has a client say its first words.
  package func start() throws(TLSError) { try shakeHands() }

  // MARK: From the peer

  /// Takes ciphertext, all of it. Plaintext is gathered in `room`, which must hold a record (16 KiB) at least, and
  /// handed to `deliver`, as often as it takes; `deliver` returns false when no more is wanted, as after a close.
  ///
  /// After an error the connection is of no use but for the alert that may wait in ``outgoing``.
  package func receive(
    _ ciphertext: UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer,
    _ deliver: (UnsafeRawBufferPointer) -> Bool
  ) throws(TLSError) {
    guard state != .failed else { throw TLSError(.protocolFault, "the connection has failed before") }
    incoming = ciphertext
    defer { incoming = UnsafeRawBufferPointer(start: nil, count: 0) }
    if state == .handshaking { try shakeHands() }
    guard state == .open else { return }
    var gathered = 0
    while !peerHasClosed {
      let count = try read(UnsafeMutableRawBufferPointer(rebasing: room[gathered...]))
      gathered += count
      let isFull = room.count - gathered < Self.recordBytes
      if count > 0, !isFull { continue }
      if gathered > 0 {
        guard deliver(UnsafeRawBufferPointer(rebasing: room[..<gathered])) else { return }
        gathered = 0
      }
      if count == 0 { return }
    }
    if gathered > 0 { _ = deliver(UnsafeRawBufferPointer(rebasing: room[..<gathered])) }
  }

  private static let recordBytes = 16 * 1024

  /// Plaintext of at most one record; 0 when there is none for now.
  private func read(_ room: UnsafeMutableRawBufferPointer) throws(TLSError) -> Int {
    var count = 0
    ERR_clear_error()
    let result = SSL_read_ex(handle, room.baseAddress, room.count, &count)
    if result == 1 { return count }
    switch SSL_get_error(handle, result) {
    case SSL_ERROR_WANT_READ: return 0
    case SSL_ERROR_ZERO_RETURN:
      peerHasClosed = true
      return 0
    default: throw fail()
    }
  }

  private func shakeHands() throws(TLSError) {
    ERR_clear_error()
    let result = SSL_do_handshake(handle)
    if result == 1 {
      state = .open
    } else if SSL_get_error(handle, result) != SSL_ERROR_WANT_READ {
      throw fail()
    }
  }

  private func fail() -> TLSError {
    state = .failed
    if outgoing.count > Self.outgoingBytesMax {
      ERR_clear_error()
      return TLSError(.protocolFault, "the peer asks for answers and does not take them")
    }
    return .connection(handle)
  }

  // MARK: To the peer

  /// Encrypts `plaintext`, at most ``sendBytesMax`` bytes, into ``outgoing``. The handshake must be over.
  package func send(_ plaintext: UnsafeRawBufferPointer) throws(TLSError) {
    guard !plaintext.isEmpty else { return }
    guard state == .open, !hasClosedSending else { throw TLSError(.library, "the connection does not send") }
    var count = 0
    ERR_clear_error()
    // All or nothing: the BIO takes whatever it is given.
    guard SSL_write_ex(handle, plaintext.baseAddress, plaintext.count, &count) == 1, count == plaintext.count
    else { throw fail() }
  }

  /// Says close_notify: nothing more is sent. Idempotent; without effect before the handshake is over or after a fault.
  package func closeSending() {
    guard state == .open, !hasClosedSending else { return }
    hasClosedSending = true
    ERR_clear_error()
    _ = SSL_shutdown(handle)
    ERR_clear_error()
  }
}

// MARK: The library's view of the buffers

/// Reads from a connection's `incoming` and writes to its `outgoing`. Made once; the library keeps it for ever.
///
/// `nonisolated(unsafe)`: the library does not change a method once it is in use.
private nonisolated(unsafe) let memoryMethod: OpaquePointer? = {
  guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "dynamo buffers") else {
    return nil
  }
  BIO_meth_set_read(method, readIncoming)
  BIO_meth_set_write(method, writeOutgoing)
  BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
  BIO_meth_set_create(method) { bio in
    BIO_set_init(bio, 1)
    return 1
  }
  return method
}()

private func connection(behind bio: OpaquePointer?) -> TLSConnection? {
  BIO_get_data(bio).map { Unmanaged<TLSConnection>.fromOpaque($0).takeUnretainedValue() }
}

private func readIncoming(_ bio: OpaquePointer?, _ room: UnsafeMutablePointer<CChar>?, _ count: Int32)
  -> Int32
{
  guard let connection = connection(behind: bio), let room, count > 0 else { return -1 }
  BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
  guard let start = connection.incoming.baseAddress, !connection.incoming.isEmpty else {
    BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
    return -1
  }
  let taken = min(Int(count), connection.incoming.count)
  memcpy(room, start, taken)
  connection.incoming = connection.incoming.slice(taken..<connection.incoming.count)
  return Int32(taken)
}

private func writeOutgoing(_ bio: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ count: Int32) -> Int32 {
  guard let connection = connection(behind: bio), count >= 0 else { return -1 }
  BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
  connection.outgoing.append(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
  return connection.outgoing.count > TLSConnection.outgoingBytesMax ? -1 : count
}
