// A borrowed view of the field lines of a parsed head.

internal import Base

/// One field line, as offsets into the head's bytes.
@usableFromInline
package struct FieldEntry {
  @usableFromInline var nameStart: UInt32
  @usableFromInline var nameEnd: UInt32
  @usableFromInline var valueStart: UInt32
  @usableFromInline var valueEnd: UInt32
  @usableFromInline var known: KnownHeader

  @inlinable
  init(nameStart: Int, nameEnd: Int, valueStart: Int, valueEnd: Int, known: KnownHeader) {
    self.nameStart = UInt32(truncatingIfNeeded: nameStart)
    self.nameEnd = UInt32(truncatingIfNeeded: nameEnd)
    self.valueStart = UInt32(truncatingIfNeeded: valueStart)
    self.valueEnd = UInt32(truncatingIfNeeded: valueEnd)
    self.known = known
  }
}

/// One header or trailer field. Its slices live as long as the view it came from.
@usableFromInline
package struct HeaderField {
  /// Which name it is.
  @usableFromInline package let known: KnownHeader
  /// The name as sent.
  @usableFromInline package let name: UnsafeRawBufferPointer
  /// The value without the whitespace around it.
  @usableFromInline package let value: UnsafeRawBufferPointer

  @inlinable
  init(known: KnownHeader, name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
    self.known = known
    self.name = name
    self.value = value
  }
}

/// The field lines of a head, in their order.
///
/// A view: valid only until the parser's next parse, and while the bytes that were parsed stay where they are.
@usableFromInline
package struct HeaderFields {
  @usableFromInline let base: UnsafePointer<UInt8>
  @usableFromInline let entries: UnsafePointer<FieldEntry>
  /// Index of the first field of each known name; only meaningful for members of `present`.
  @usableFromInline let firstIndexes: UnsafePointer<UInt8>
  /// Number of field lines.
  @usableFromInline package let count: Int
  /// The known names that occur.
  @usableFromInline package let present: KnownHeaderSet
  /// The known names that occur more than once.
  @usableFromInline package let repeated: KnownHeaderSet
  /// True when a `connection` field lists more than `close` and `keep-alive`.
  var connectionNamesFields = false

  init(
    base: UnsafePointer<UInt8>, entries: UnsafePointer<FieldEntry>, firstIndexes: UnsafePointer<UInt8>,
    count: Int, present: KnownHeaderSet, repeated: KnownHeaderSet
  ) {
    self.base = base
    self.entries = entries
    self.firstIndexes = firstIndexes
    self.count = count
    self.present = present
    self.repeated = repeated
  }

  /// The field at `index`, which must be below ``count``.
  @inlinable
  package subscript(index: Int) -> HeaderField {
    let entry = entries[index]
    return HeaderField(
      known: entry.known, name: slice(entry.nameStart, entry.nameEnd),
      value: slice(entry.valueStart, entry.valueEnd))
  }

  /// The bytes of the field line at `index` from name to value, without the line's end: ready to be copied.
  @inlinable
  package func line(_ index: Int) -> UnsafeRawBufferPointer {
    slice(entries[index].nameStart, entries[index].valueEnd)
  }

  /// True when a field of that name occurs.
  @inlinable
  package func contains(_ header: KnownHeader) -> Bool { present.contains(header) }

  /// The value of the first field of that name; nil when there is none, and for `other`.
  @inlinable
  package func first(_ header: KnownHeader) -> UnsafeRawBufferPointer? {
    guard present.contains(header) else { return nil }
    let entry = entries[Int(firstIndexes[Int(header.rawValue)])]
    return slice(entry.valueStart, entry.valueEnd)
  }

  /// Number of field lines of that name.
  package func count(of header: KnownHeader) -> Int {
    guard present.contains(header) else { return 0 }
    guard repeated.contains(header) else { return 1 }
    var result = 0
    for index in 0..<count where entries[index].known.rawValue == header.rawValue { result += 1 }
    return result
  }

  /// The value of the first field whose name equals `lowercase` (in lower case) but for letter case.
  package func find(_ lowercase: StaticString) -> UnsafeRawBufferPointer? {
    for index in 0..<count {
      let entry = entries[index]
      if slice(entry.nameStart, entry.nameEnd).equalsIgnoringCase(lowercase) {
        return slice(entry.valueStart, entry.valueEnd)
      }
    }
    return nil
  }

  @inlinable
  func slice(_ start: UInt32, _ end: UInt32) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + Int(start), count: Int(end &- start))
  }
}

extension HeaderFields {
  /// Names that concern one connection only (RFC 9110 section 7.6.1), and proxy credentials, which end with us.
  private static var hopByHopBits: UInt64 {
    KnownHeader.connection.bit | KnownHeader.keepAlive.bit | KnownHeader.proxyConnection.bit
      | KnownHeader.proxyAuthenticate.bit | KnownHeader.proxyAuthorization.bit | KnownHeader.te.bit
      | KnownHeader.trailer.bit | KnownHeader.transferEncoding.bit | KnownHeader.upgrade.bit
      | KnownHeader.http2Settings.bit
  }

  /// True when the field at `index` must not be passed on: a hop-by-hop name, or one that `connection` lists.
  package func isHopByHop(_ index: Int) -> Bool {
    if Self.hopByHopBits & entries[index].known.bit != 0 { return true }
    guard connectionNamesFields else { return false }
    return connectionLists(slice(entries[index].nameStart, entries[index].nameEnd))
  }

  /// True when some `connection` field lists `name` as an option.
  package func connectionLists(_ name: UnsafeRawBufferPointer) -> Bool {
    for index in 0..<count where entries[index].known.rawValue == KnownHeader.connection.rawValue {
      var list = ListReader(slice(entries[index].valueStart, entries[index].valueEnd))
      while let option = list.next() {
        if option.equalsIgnoringCase(name) { return true }
      }
    }
    return false
  }
}
