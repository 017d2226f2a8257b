// A growable byte buffer with one owner: what every writer appends to and every socket drains.

import Glibc

/// A growable queue of bytes in one allocation: appended at the tail, consumed at the head.
///
/// Invariant: `0 <= head <= tail <= capacity`. An empty buffer created with no capacity owns no memory.
///
/// The type itself is usable from inline code: without that, no member is inlined in another module.
@usableFromInline
package struct ByteBuffer: ~Copyable {
  @usableFromInline package var base: UnsafeMutableRawPointer?
  @usableFromInline package var capacity: Int
  @usableFromInline package var head: Int
  @usableFromInline package var tail: Int

  /// Creates a buffer that can take `capacity` bytes before it grows; 0 allocates nothing.
  package init(capacity: Int = 0) {
    base = capacity > 0 ? malloc(capacity) : nil
    self.capacity = base == nil ? 0 : capacity
    head = 0
    tail = 0
  }

  deinit { free(base) }

  /// Number of bytes that wait between head and tail.
  @inlinable package var count: Int { tail - head }

  /// True when nothing waits.
  @inlinable package var isEmpty: Bool { tail == head }

  /// The waiting bytes; valid until the next mutation.
  @inlinable package var readable: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base.map { UnsafeRawPointer($0) + head }, count: tail - head)
  }

  /// Makes room for `count` more bytes and returns where they go. Follow with ``commit(_:)``.
  @inlinable
  package mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
    if capacity - tail >= count, let base { return base + tail }
    return makeRoom(count)
  }

  /// Declares that `count` bytes were written at the pointer that ``reserve(_:)`` returned.
  @inlinable
  package mutating func commit(_ count: Int) { tail += count }

  /// Drops `count` bytes from the head.
  @inlinable
  package mutating func consume(_ count: Int) {
    head += count
    if head == tail {
      head = 0
      tail = 0
    }
  }

  /// Drops all bytes and keeps the memory.
  @inlinable
  package mutating func removeAll() {
    head = 0
    tail = 0
  }

  /// Cuts the buffer back to its first `count` readable bytes.
  @inlinable
  package mutating func truncate(to count: Int) { tail = head + count }

  /// Drops all bytes and gives the memory back.
  package mutating func release() {
    free(base)
    base = nil
    capacity = 0
    head = 0
    tail = 0
  }

  /// Takes what waits out, with its memory, and leaves an empty buffer that owns none.
  package mutating func take() -> ByteBuffer {
    var taken = ByteBuffer()
    swap(&self, &taken)
    return taken
  }

  /// Gives memory behind the tail back when less than half of it is used.
  package mutating func trim() {
    guard let base, tail > 0, tail < capacity / 2, let smaller = realloc(base, tail) else { return }
    self.base = smaller
    capacity = tail
  }

  /// True when the buffer owns memory, even if nothing waits in it.
  @inlinable package var hasMemory: Bool { base != nil }

  /// Takes ownership of `memory`, which came from malloc, in place of none.
  package mutating func adopt(_ memory: UnsafeMutableRawPointer, capacity: Int) {
    precondition(base == nil, "a buffer adopts memory only when it has none")
    base = memory
    self.capacity = capacity
  }

  /// Hands the memory of an empty buffer to the caller, who frees it.
  package mutating func surrender() -> UnsafeMutableRawPointer? {
    precondition(isEmpty, "bytes would be lost")
    let memory = base
    base = nil
    capacity = 0
    head = 0
    tail = 0
    return memory
  }

  @usableFromInline
  mutating func makeRoom(_ count: Int) -> UnsafeMutableRawPointer {
    let used = tail - head
    if let base, capacity - used >= count, head >= used {
      memcpy(base, base + head, used)
    } else {
      var wanted = max(capacity * 2, 256)
      while wanted - used < count { wanted *= 2 }
      guard let grown = malloc(wanted) else { preconditionFailure("out of memory") }
      if let base { memcpy(grown, base + head, used) }
      free(base)
      base = grown
      capacity = wanted
    }
    head = 0
    tail = used
    guard let base else { preconditionFailure("a buffer with room has memory") }
    return base + tail
  }
}

extension ByteBuffer {
  /// Appends a copy of `bytes`.
  @inlinable
  package mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress else { return }
    reserve(bytes.count).copyShort(from: source, count: bytes.count)
    tail += bytes.count
  }

  /// Appends constant text without making a `String`.
  @inlinable
  package mutating func append(_ text: StaticString) {
    let count = text.utf8CodeUnitCount
    reserve(count).copyShort(from: text.utf8Start, count: count)
    tail += count
  }

  /// Appends the UTF-8 bytes of `text`.
  package mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Appends a copy of `bytes`.
  package mutating func append(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { append($0) }
  }

  /// Appends one byte.
  @inlinable
  package mutating func append(_ byte: UInt8) {
    reserve(1).storeBytes(of: byte, as: UInt8.self)
    tail += 1
  }

  /// Appends `value` in decimal digits.
  package mutating func append(decimal value: Int) {
    if value < 0 { append(UInt8(ascii: "-")) }
    append(decimal: UInt64(value.magnitude))
  }

  /// Appends `value` in decimal digits. Not generic, so that other modules call it as it is compiled here.
  package mutating func append(decimal value: UInt64) {
    let room = reserve(20)
    tail &+= Decimal.write(value, to: room)
  }

  /// Appends a length of time in milliseconds with three digits after the point, the rest cut off.
  package mutating func append(milliseconds value: Nanoseconds) {
    let room = reserve(24)
    tail &+= Decimal.writeMilliseconds(value, to: room)
  }

  /// Appends `value` in decimal digits.
  package mutating func append(decimal value: UInt) { append(decimal: UInt64(value)) }

  /// Appends `value` as 16 lowercase hexadecimal digits.
  package mutating func append(hex value: UInt64) {
    Hex.write(value, to: reserve(16))
    tail += 16
  }

  /// Appends `value` with `fraction` digits after the point, truncated, as `1.250`; never in exponent form.
  package mutating func append(double value: Double, fraction: Int) {
    guard value.isFinite else {
      append("0" as StaticString)
      return
    }
    if value < 0 { append(UInt8(ascii: "-")) }
    var scale: UInt64 = 1
    for _ in 0..<fraction { scale *= 10 }
    let scaled = min((value.magnitude * Double(scale)).rounded(), 9e18)
    let whole = UInt64(scaled)
    append(decimal: whole / scale)
    guard fraction > 0 else { return }
    append(UInt8(ascii: "."))
    var rest = whole % scale
    let room = reserve(fraction).assumingMemoryBound(to: UInt8.self)
    var index = fraction
    while index > 0 {
      index -= 1
      room[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    tail += fraction
  }

  /// The waiting bytes as an array; for tests and cold paths.
  package var bytes: [UInt8] { Array(readable) }

  /// The waiting bytes as text, with invalid UTF-8 replaced; for tests and cold paths.
  package var text: String { String(decoding: readable, as: UTF8.self) }
}
