// The field lines of one HTTP/2 header or trailer section, pseudo-headers included.

import Base

/// Names and values of one section, in wire order, copied into one buffer.
///
/// A class, so that sessions and callers share one copy; confined to the thread of its session.
package final class HTTP2Fields {
  private struct Entry {
    let name: Range<Int>
    let value: Range<Int>
  }

  private var storage = ByteBuffer()
  private var entries: [Entry] = []

  /// Creates an empty section.
  package init() {}

  /// Number of field lines.
  package var count: Int { entries.count }

  /// Size as RFC 9113 section 6.5.2 counts it: name, value and 32 bytes a line.
  package var listBytes: Int { storage.count + 32 * entries.count }

  /// Appends one line. `name` must be in lower case (RFC 9113 section 8.2.1).
  package func append(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    let start = storage.count
    storage.append(name)
    let middle = storage.count
    storage.append(value)
    entries.append(Entry(name: start..<middle, value: middle..<storage.count))
  }

  /// Appends one line with a constant name and value.
  package func append(_ name: StaticString, _ value: StaticString) {
    append(
      UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount),
      UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
  }

  /// Appends one line with a constant name.
  package func append(_ name: StaticString, _ value: String) {
    var value = value
    value.withUTF8 {
      append(
        UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount),
        UnsafeRawBufferPointer($0))
    }
  }

  /// Appends one line.
  package func append(_ name: String, _ value: String) {
    var name = name
    var value = value
    name.withUTF8 { name in
      value.withUTF8 { append(UnsafeRawBufferPointer(name), UnsafeRawBufferPointer($0)) }
    }
  }

  /// The name of line `index`; valid until the next append.
  package func name(_ index: Int) -> UnsafeRawBufferPointer { storage.readable.slice(entries[index].name) }

  /// The value of line `index`; valid until the next append.
  package func value(_ index: Int) -> UnsafeRawBufferPointer { storage.readable.slice(entries[index].value) }

  /// The value of the first line called `name` (lower case); nil when there is none.
  package func first(_ name: StaticString) -> UnsafeRawBufferPointer? {
    for entry in entries where storage.readable.slice(entry.name).equals(name) {
      return storage.readable.slice(entry.value)
    }
    return nil
  }

  /// The three digits of `:status`; nil on a request or before the head came.
  package var status: Int? { first(":status")?.decimal }
}
