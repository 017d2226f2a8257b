// A client and a server talking to each other through a pipe that cuts what it carries.

import Base
import TLS
import TestSupport

/// One end, with what it received.
final class TLSEnd {
  let connection: TLSConnection
  var received: [UInt8] = []
  var failure: TLSError?
  /// What the other end sent and this one was not given yet.
  var pending: [UInt8] = []
  /// Called with each piece of plaintext; false stops the delivery.
  var onPiece: (Int) -> Bool = { _ in true }
  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 48 * 1024, alignment: 16)

  init(
    _ context: TLSContext, serverName: String? = nil, sessions: TLSSessions? = nil
  ) throws(TLSError) {
    connection = try TLSConnection(context, serverName: serverName, sessions: sessions)
  }

  deinit { room.deallocate() }

  func receive(_ bytes: [UInt8]) {
    do {
      try bytes.withUnsafeBytes { raw in
        try connection.receive(raw, into: room) { piece in
          received += piece
          return onPiece(piece.count)
        }
      }
    } catch {
      if failure == nil { failure = error as? TLSError }
    }
  }

  func send(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try connection.send($0) }
  }

  func takeOutgoing() -> [UInt8] {
    let bytes = connection.outgoing.bytes
    connection.outgoing.removeAll()
    return bytes
  }
}

/// Both ends, and an authority that both files come from.
final class TLSPair {
  let client: TLSEnd
  let server: TLSEnd
  /// Bytes handed over at a time.
  let step: Int

  init(
    _ client: TLSContext, _ server: TLSContext, name: String = "localhost", step: Int = 100_000,
    sessions: TLSSessions? = nil, starts: Bool = true
  ) throws {
    self.client = try TLSEnd(client, serverName: name, sessions: sessions)
    self.server = try TLSEnd(server)
    self.step = step
    guard starts else { return }
    do throws(TLSError) { try self.client.connection.start() } catch { self.client.failure = error }
  }

  /// Carries bytes both ways, `step` at a time, until neither end says anything more.
  func settle() {
    var moved = true
    while moved {
      moved = carry(from: client, to: server)
      moved = carry(from: server, to: client) || moved
    }
  }

  private func carry(from: TLSEnd, to: TLSEnd) -> Bool {
    to.pending += from.takeOutgoing()
    guard !to.pending.isEmpty else { return false }
    // As a socket does: nothing reaches a connection that has failed.
    guard to.failure == nil else {
      to.pending = []
      return true
    }
    to.receive(Array(to.pending.prefix(step)))
    to.pending.removeFirst(min(step, to.pending.count))
    return true
  }

  var isOpen: Bool { client.connection.isOpen && server.connection.isOpen }
}

/// The usual files.
struct TLSFiles {
  let authority: TestAuthority
  let server: TestAuthority.Files

  init(_ change: (inout TestAuthority.Request) -> Void = { _ in }) throws {
    authority = try TestAuthority()
    server = try authority.issue(change)
  }

  var identity: TLSIdentity { TLSIdentity(certificatePath: server.certificate, keyPath: server.key) }

  func serverContext(clientRoots: String? = nil, _ protocols: [String] = ["http/1.1"]) throws -> TLSContext {
    try TLSContext(server: identity, clientRoots: clientRoots, protocols: protocols)
  }

  func clientContext(identity: TLSIdentity? = nil, _ protocols: [String] = ["http/1.1"]) throws -> TLSContext
  {
    try TLSContext(clientTrusting: .file(authority.path), identity: identity, protocols: protocols)
  }
}

/// Bytes that are all different from their neighbours.
func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) } }
