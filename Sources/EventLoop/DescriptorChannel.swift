// Messages with descriptors between two processes of one machine (SCM_RIGHTS), for handing listening sockets over.

internal import CSystem
internal import Glibc

/// One end of a Unix socket that keeps the borders of messages. Closed with its last reference.
package final class DescriptorChannel: Sendable {
  private static let messageBytesMax = 4_096
  private static let descriptorsMax = 64

  package let descriptor: Int32

  package init(adopting descriptor: Int32) { self.descriptor = descriptor }

  deinit { _ = close(descriptor) }

  /// Connects to whoever listens at `path`; nil when nobody does. Its calls wait for `patience` seconds at most.
  package static func connect(path: String, patience: Int) throws(SystemError) -> DescriptorChannel? {
    guard let address = SocketAddress(unixPath: path) else { throw SystemError("connect", ENAMETOOLONG) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw SystemError("socket", csystem_errno()) }
    let channel = DescriptorChannel(adopting: descriptor)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      var limit = timeval(tv_sec: patience, tv_usec: 0)
      _ = setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    if address.withSockaddr({ Glibc.connect(descriptor, $0, $1) }) == 0 { return channel }
    let code = csystem_errno()
    if code == ENOENT || code == ECONNREFUSED { return nil }
    throw SystemError("connect", code)
  }

  /// True when the process at the other end runs as the user of this one, or as root.
  package var peerIsTrusted: Bool {
    let user = csystem_peer_user(descriptor)
    return user == 0 || user == Int(geteuid())
  }

  /// Sends one message, with copies of `descriptors`; false when the other end is gone or does not read.
  package func send(_ text: String, _ descriptors: [Int32] = []) -> Bool {
    Array(text.utf8).withUnsafeBytes { bytes in
      csystem_send_descriptors(
        descriptor, bytes.baseAddress, bytes.count, descriptors, Int32(descriptors.count)) == 0
    }
  }

  /// What ``receive()`` found.
  package enum Message {
    case text(String, [Int32])
    /// The other end is gone.
    case end
    /// Nothing is there: none yet, or none within the patience.
    case nothing
  }

  /// Receives one message; its descriptors are the caller's to close.
  package func receive() -> Message {
    withUnsafeTemporaryAllocation(byteCount: Self.messageBytesMax, alignment: 1) { room in
      var descriptors = [Int32](repeating: -1, count: Self.descriptorsMax)
      var count = Int32(Self.descriptorsMax)
      let received = csystem_receive_descriptors(
        descriptor, room.baseAddress, room.count, &descriptors, &count)
      if received > 0 {
        let bytes = UnsafeRawBufferPointer(rebasing: room[..<received])
        return .text(String(decoding: bytes, as: UTF8.self), Array(descriptors.prefix(Int(count))))
      }
      return received == 0 || received == -Int(ECONNRESET) ? .end : .nothing
    }
  }
}
