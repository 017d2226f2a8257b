// Output buffers of one loop: lent to a connection while it has something to say, so that an idle one holds nothing.

package import Base

/// A stack of equal memory blocks. A lent block may grow in the borrower's hands; it is then freed, not taken back.
package final class BufferPool {
  /// Bytes in a block.
  package static let blockBytes = 16 * 1024
  /// Blocks kept at most; more are freed on return.
  package static let blocksMax = 64

  private var free: [UnsafeMutableRawPointer] = []

  package init() {}

  deinit {
    for block in free { block.deallocate() }
  }

  /// Gives `buffer` memory when it has none.
  package func lend(to buffer: inout ByteBuffer) {
    guard !buffer.hasMemory else { return }
    if let block = free.popLast() {
      buffer.adopt(block, capacity: Self.blockBytes)
    } else {
      _ = buffer.reserve(Self.blockBytes)
    }
  }

  /// Takes the memory of an empty `buffer` back.
  package func reclaim(_ buffer: inout ByteBuffer) {
    guard buffer.isEmpty, buffer.hasMemory else { return }
    guard buffer.capacity == Self.blockBytes, free.count < Self.blocksMax, let block = buffer.surrender()
    else {
      buffer.release()
      return
    }
    free.append(block)
  }
}
