// The length-prefixed message of gRPC: one flag byte, four bytes of length, the message.

package import Base

/// Writing and reading of length-prefixed messages.
package enum GRPCFrame {
  /// Bytes before the message.
  package static let prefixBytes = 5
  /// Largest message taken, as gRPC's own implementations default to.
  package static let messageBytesMax = 4 << 20

  /// Reserves the prefix at the end of `buffer`; returns the mark for ``end(_:in:)``.
  package static func begin(in buffer: inout ByteBuffer) -> Int {
    let mark = buffer.count
    for _ in 0..<prefixBytes { buffer.append(0 as UInt8) }
    return mark
  }

  /// Appends the prefix of a message that takes `messageBytes` as it is sent.
  package static func appendPrefix(messageBytes: Int, isCompressed: Bool = false, to buffer: inout ByteBuffer)
  {
    buffer.append(isCompressed ? 1 : 0 as UInt8)
    let room = buffer.reserve(4)
    room.storeBytes(of: UInt32(clamping: messageBytes).bigEndian, as: UInt32.self)
    buffer.commit(4)
  }

  /// Writes the length of what was appended since ``begin(in:)`` gave `mark`.
  package static func end(_ mark: Int, in buffer: inout ByteBuffer) {
    let count = UInt32(clamping: buffer.count - mark - prefixBytes)
    guard let start = buffer.readable.baseAddress else { return }
    // The bytes belong to `buffer`, which this function holds exclusively.
    UnsafeMutableRawPointer(mutating: start).storeBytes(
      of: count.bigEndian, toByteOffset: mark + 1, as: UInt32.self)
  }

  /// What a body that should be exactly one message holds.
  package enum Content: Equatable {
    /// The message's place in the body.
    case message(Range<Int>)
    case none
    /// The place of a message whose flag byte says that it is compressed, as the head's `grpc-encoding` names.
    case compressed(Range<Int>)
    /// Cut short, longer than it says, or more than one message.
    case malformed
    case tooLarge
  }

  /// Reads `body` as one message.
  package static func read(_ body: UnsafeRawBufferPointer) -> Content {
    if body.isEmpty { return .none }
    guard body.count >= prefixBytes else { return .malformed }
    let length = Int(UInt32(bigEndian: body.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
    if length > messageBytesMax { return .tooLarge }
    guard body.count == prefixBytes + length else { return .malformed }
    switch body[0] {
    case 0: return .message(prefixBytes..<body.count)
    case 1: return .compressed(prefixBytes..<body.count)
    default: return .malformed
    }
  }
}
