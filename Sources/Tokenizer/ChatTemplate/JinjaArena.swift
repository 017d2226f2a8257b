// Memory of all strings of one template or one rendering: allocated by moving a pointer, given back at once.

internal import Glibc

/// Hands out bytes that stay where they are until the arena goes. Nothing is freed singly, so a string is a pointer and
/// a length without an owner to count.
///
/// Confined to one thread until it is complete; a template's arena is never written after compilation.
final class JinjaArena {
  /// Bytes that may be handed out in all.
  private let bytesMax: Int
  private var chunks: [UnsafeMutableRawPointer] = []
  private var next: UnsafeMutablePointer<UInt8>?
  private var left = 0
  private(set) var used = 0

  init(bytesMax: Int) {
    self.bytesMax = bytesMax
  }

  deinit {
    for chunk in chunks { free(chunk) }
  }

  /// Room for `count` bytes.
  func allocate(_ count: Int) throws(ChatTemplateError) -> UnsafeMutablePointer<UInt8> {
    if count <= left, let room = next {
      next = room + count
      left -= count
      used += count
      return room
    }
    return try allocateChunk(count)
  }

  /// Counts memory that is held elsewhere, as the elements of a list.
  func charge(_ count: Int) throws(ChatTemplateError) {
    used += count
    if used > bytesMax {
      throw ChatTemplateError(.outOfMemory, "more than \(bytesMax) bytes of values")
    }
  }

  /// A copy of `bytes`.
  func copy(_ bytes: UnsafeRawBufferPointer) throws(ChatTemplateError) -> JinjaText {
    guard let source = bytes.baseAddress, !bytes.isEmpty else { return .empty }
    let room = try allocate(bytes.count)
    memcpy(room, source, bytes.count)
    return JinjaText(room, bytes.count)
  }

  /// A copy of `text`.
  func copy(_ text: String) throws(ChatTemplateError) -> JinjaText {
    let bytes = Array(text.utf8)
    let room = try allocate(bytes.count)
    for (index, byte) in bytes.enumerated() { room[index] = byte }
    return JinjaText(room, bytes.count)
  }

  private func allocateChunk(_ count: Int) throws(ChatTemplateError) -> UnsafeMutablePointer<UInt8> {
    guard count <= bytesMax - used else {
      throw ChatTemplateError(.outOfMemory, "more than \(bytesMax) bytes of values")
    }
    // A chunk of its own for what is large, so that the rest of the current one is not lost.
    let size = count > 16_384 ? count : min(max(used, 32_768), 1 << 20)
    guard let chunk = malloc(max(size, 1)) else {
      throw ChatTemplateError(.outOfMemory, "the system has no memory")
    }
    chunks.append(chunk)
    let room = chunk.assumingMemoryBound(to: UInt8.self)
    used += count
    if size > count {
      next = room + count
      left = size - count
    }
    return room
  }
}
