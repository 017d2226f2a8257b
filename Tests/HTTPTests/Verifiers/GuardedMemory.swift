// Memory whose end is the end of the readable world: one byte too far and the test process dies.

import Glibc

/// Readable pages followed by an unreadable one.
final class GuardedMemory {
  private let base: UnsafeMutableRawPointer
  private let mapped: Int
  private let usable: Int

  /// Maps room for `capacity` bytes.
  init(capacity: Int) {
    let page = Int(getpagesize())
    usable = (max(capacity, 1) + page - 1) / page * page
    mapped = usable + page
    guard
      let memory = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      memory != MAP_FAILED, mprotect(memory + usable, page, PROT_NONE) == 0
    else { preconditionFailure("no memory for the test") }
    base = memory
  }

  deinit { munmap(base, mapped) }

  /// Places a copy of `bytes` right before the unreadable page and hands it to `body`.
  func with<Result>(_ bytes: ArraySlice<UInt8>, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    precondition(bytes.count <= usable, "capacity is too small")
    let start = base + usable - bytes.count
    bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { start.copyMemory(from: from, byteCount: source.count) }
    }
    return body(UnsafeRawBufferPointer(start: start, count: bytes.count))
  }
}
