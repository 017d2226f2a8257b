// Writes spans straight into OTLP bytes (opentelemetry/proto/trace/v1/trace.proto), one after the other.

package import Base
internal import Protobuf

/// The role of a span in a call (`Span.SpanKind`).
package enum SpanKind: UInt8, Sendable {
  case `internal` = 1
  case server = 2
  case client = 3
  case producer = 4
  case consumer = 5
}

/// How a span's work ended (`Status.StatusCode`).
package enum SpanStatus: UInt8, Sendable {
  case unset = 0
  case ok = 1
  case error = 2
}

/// Encodes spans at their end into entries of `ScopeSpans.spans`, ready for an export message.
///
/// One span is open at a time: ``begin(name:context:parent:parentIsRemote:kind:start:traceState:)``, then
/// attributes, events and links in any order, then ``end(at:status:message:)``. Attributes given between
/// ``beginEvent(name:at:)`` and ``endEvent()`` belong to that event; the same holds for links. All times are
/// nanoseconds since the Unix epoch. Keys are constants of fewer than 100 bytes.
package struct SpanWriter: ~Copyable {
  var buffer: ByteBuffer
  let limits: SpanLimits
  /// Finished spans that wait in ``bytes``.
  package private(set) var spanCount = 0

  /// Where the open span's content starts; 0 when none is open.
  private var spanMark = 0
  /// Where the open event's or link's content starts; 0 when none is open.
  private var itemMark = 0
  /// An event or link past its bound is open: its attributes vanish with it.
  private var discardsItem = false
  /// The tag under which the next attribute goes: field 9 of a span, 3 of an event, 4 of a link.
  var attributeTag: UInt8 = 0
  /// Attributes that the open span, event or link still takes; 0 while none is open.
  var attributesLeft = 0
  /// Bytes of the buffer at which the open span takes nothing more.
  var byteEnd = 0
  /// The span's own ``attributesLeft`` while an event or link is open.
  private var spanAttributesLeft = 0
  private var eventsLeft = 0
  private var linksLeft = 0
  private var droppedAttributeCount: UInt64 = 0
  private var itemDroppedAttributeCount: UInt64 = 0
  private var droppedEventCount: UInt64 = 0
  private var droppedLinkCount: UInt64 = 0

  /// Creates a writer that can take `capacity` bytes of spans before it grows; 0 allocates nothing yet.
  package init(capacity: Int = 0, limits: SpanLimits = SpanLimits()) {
    buffer = ByteBuffer(capacity: capacity)
    self.limits = limits
  }

  /// The finished spans; valid until the next mutation.
  package var bytes: UnsafeRawBufferPointer { buffer.readable }

  /// Makes room for `count` more bytes at once.
  package mutating func reserve(_ count: Int) { _ = buffer.reserve(count) }

  /// Takes the finished spans out, with their memory.
  package mutating func take() -> FrozenBytes {
    assert(spanMark == 0, "finished spans are taken out")
    let bytes = FrozenBytes(buffer.take())
    removeAll()
    return bytes
  }

  /// Appends the finished spans of `other`.
  package mutating func append(_ other: borrowing SpanWriter) {
    assert(spanMark == 0, "finished spans go between spans")
    buffer.append(other.bytes)
    spanCount += other.spanCount
  }

  /// Forgets all spans and keeps the memory.
  package mutating func removeAll() {
    buffer.removeAll()
    spanCount = 0
    spanMark = 0
    itemMark = 0
    discardsItem = false
    attributesLeft = 0
  }

  /// Forgets all spans and gives the memory back.
  package mutating func release() {
    removeAll()
    buffer.release()
  }

  /// Opens a span with a constant name.
  ///
  /// - Parameter parent: the parent's span id, 0 for a root.
  /// - Parameter parentIsRemote: whether the parent came in a header; goes into bit 0x200 of the flags.
  /// - Parameter traceState: the list to record, from ``TraceState/bytes``.
  package mutating func begin(
    name: StaticString, context: SpanContext, parent: UInt64 = 0, parentIsRemote: Bool = false,
    kind: SpanKind, start: UInt64,
    traceState: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    assert(spanMark == 0, "one span is open at a time")
    open(
      UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), context, parent,
      parentIsRemote, kind, start, traceState)
  }

  /// Opens a span; `name` is cut and repaired like a string value.
  package mutating func begin(
    name: UnsafeRawBufferPointer, context: SpanContext, parent: UInt64 = 0, parentIsRemote: Bool = false,
    kind: SpanKind, start: UInt64,
    traceState: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    assert(spanMark == 0, "one span is open at a time")
    let name = BoundedText.cut(name, to: limits.valueBytesMax)
    if BoundedText.isASCII(name) {
      open(name, context, parent, parentIsRemote, kind, start, traceState)
    } else {
      var repaired = String(decoding: name, as: UTF8.self)
      repaired.withUTF8 {
        open(UnsafeRawBufferPointer($0), context, parent, parentIsRemote, kind, start, traceState)
      }
    }
  }

  /// Writes the head of a span whose `name` is valid UTF-8.
  private mutating func open(
    _ name: UnsafeRawBufferPointer, _ context: SpanContext, _ parent: UInt64, _ parentIsRemote: Bool,
    _ kind: SpanKind, _ start: UInt64, _ traceState: UnsafeRawBufferPointer
  ) {
    let room = buffer.reserve(96 + name.count + traceState.count)
    var cursor = ProtobufCursor(room)
    cursor.put(0x12)
    cursor.pointer += 3
    spanMark = buffer.count + 4
    cursor.put(0x0a)
    cursor.put(16)
    cursor.put(bigEndian: context.traceID.high)
    cursor.put(bigEndian: context.traceID.low)
    cursor.put(0x12)
    cursor.put(8)
    cursor.put(bigEndian: context.spanID)
    if let source = traceState.baseAddress, traceState.count > 0 {
      cursor.put(0x1a)
      cursor.put(varint: UInt64(traceState.count))
      cursor.put(source, count: traceState.count)
    }
    if parent != 0 {
      cursor.put(0x22)
      cursor.put(8)
      cursor.put(bigEndian: parent)
    }
    if let source = name.baseAddress {
      cursor.put(0x2a)
      cursor.put(varint: UInt64(name.count))
      cursor.put(source, count: name.count)
    }
    cursor.put(0x30)
    cursor.put(kind.rawValue)
    cursor.put(0x39)
    cursor.put(fixed64: start)
    putFlags(&cursor, tagLow: 0x85, tagHigh: 0x01, context: context, isRemote: parentIsRemote)
    buffer.commit(cursor.pointer - room)
    attributeTag = 0x4a
    attributesLeft = limits.attributeCountMax
    byteEnd = spanMark + limits.spanBytesMax
    eventsLeft = limits.eventCountMax
    linksLeft = limits.linkCountMax
    droppedAttributeCount = 0
    droppedEventCount = 0
    droppedLinkCount = 0
  }

  /// Closes the span without a status message.
  package mutating func end(at time: UInt64, status: SpanStatus = .unset) {
    end(at: time, status: status, message: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Closes the span with a constant status message.
  package mutating func end(at time: UInt64, status: SpanStatus, message: StaticString) {
    end(
      at: time, status: status,
      message: UnsafeRawBufferPointer(start: message.utf8Start, count: message.utf8CodeUnitCount))
  }

  /// Closes the span; `message` is cut and repaired like a string value.
  package mutating func end(at time: UInt64, status: SpanStatus, message: UnsafeRawBufferPointer) {
    guard spanMark != 0 else { return }
    if itemMark != 0 || discardsItem { closeItem() }
    let room = buffer.reserve(9)
    var cursor = ProtobufCursor(room)
    cursor.put(0x41)
    cursor.put(fixed64: time)
    buffer.commit(9)
    if droppedAttributeCount | droppedEventCount | droppedLinkCount != 0 { putDroppedCounts() }
    if status.rawValue != 0 {
      let mark = buffer.beginMessage(field: 15)
      if message.count > 0 {
        if BoundedText.isASCII(message) {
          buffer.append(field: 2, bytes: BoundedText.cut(message, to: limits.valueBytesMax))
        } else {
          var repaired = String(decoding: BoundedText.cut(message, to: limits.valueBytesMax), as: UTF8.self)
          repaired.withUTF8 { buffer.append(field: 2, bytes: UnsafeRawBufferPointer($0)) }
        }
      }
      buffer.append(field: 3, varint: UInt64(status.rawValue))
      buffer.endMessage(mark)
    }
    buffer.endMessage(spanMark)
    spanMark = 0
    attributesLeft = 0
    spanCount += 1
  }

  /// Drops the open span as if it had never begun.
  package mutating func abandon() {
    guard spanMark != 0 else { return }
    buffer.truncate(to: spanMark - 4)
    spanMark = 0
    itemMark = 0
    discardsItem = false
    attributesLeft = 0
  }

  // MARK: Events and links

  /// Records something that happened at `time`.
  package mutating func event(name: StaticString, at time: UInt64) {
    beginEvent(name: name, at: time)
    endEvent()
  }

  /// Opens an event; the attributes up to ``endEvent()`` are its own.
  package mutating func beginEvent(name: StaticString, at time: UInt64) {
    guard spanMark != 0, beginItem(isAdmitted: eventsLeft > 0, limits.eventAttributeCountMax) else {
      droppedEventCount += 1
      return
    }
    eventsLeft -= 1
    itemMark = buffer.beginMessage(field: 11)
    buffer.append(field: 1, fixed64: time)
    buffer.append(
      field: 2, bytes: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
    attributeTag = 0x1a
  }

  /// Closes the event.
  package mutating func endEvent() { closeItem() }

  /// Points at another span, of this trace or of another.
  package mutating func link(to context: SpanContext, isRemote: Bool = false) {
    beginLink(to: context, isRemote: isRemote)
    endLink()
  }

  /// Opens a link; the attributes up to ``endLink()`` are its own.
  package mutating func beginLink(to context: SpanContext, isRemote: Bool = false) {
    guard spanMark != 0, beginItem(isAdmitted: linksLeft > 0, limits.linkAttributeCountMax) else {
      droppedLinkCount += 1
      return
    }
    linksLeft -= 1
    itemMark = buffer.beginMessage(field: 13)
    let room = buffer.reserve(40)
    var cursor = ProtobufCursor(room)
    cursor.put(0x0a)
    cursor.put(16)
    cursor.put(bigEndian: context.traceID.high)
    cursor.put(bigEndian: context.traceID.low)
    cursor.put(0x12)
    cursor.put(8)
    cursor.put(bigEndian: context.spanID)
    cursor.put(0x35)
    cursor.put(fixed32: UInt32(context.flags) | (isRemote ? 0x300 : 0x100))
    buffer.commit(cursor.pointer - room)
    attributeTag = 0x22
  }

  /// Closes the link.
  package mutating func endLink() { closeItem() }

  private mutating func beginItem(isAdmitted: Bool, _ attributeCountMax: Int) -> Bool {
    assert(itemMark == 0 && !discardsItem, "an event or link is closed before the next one opens")
    itemDroppedAttributeCount = 0
    spanAttributesLeft = attributesLeft
    if isAdmitted, buffer.count < byteEnd {
      attributesLeft = attributeCountMax
      return true
    }
    discardsItem = true
    attributesLeft = 0
    return false
  }

  private mutating func closeItem() {
    guard itemMark != 0 || discardsItem else { return }
    if itemMark != 0 {
      if itemDroppedAttributeCount > 0 {
        // Event.dropped_attributes_count is field 4, Link's is 5: one above the attributes' own field.
        buffer.append(field: Int(attributeTag >> 3) + 1, varint: itemDroppedAttributeCount)
      }
      buffer.endMessage(itemMark)
      itemMark = 0
    }
    discardsItem = false
    attributeTag = 0x4a
    attributesLeft = spanAttributesLeft
  }

  // MARK: Attributes encoded before

  /// Room for `count` attributes of together `byteCount` bytes, which count as written; nil, and counted as dropped,
  /// where the span takes no more. To spans only, not to their events and links.
  mutating func admitAttributes(_ count: Int, byteCount: Int) -> UnsafeMutableRawPointer? {
    guard spanMark != 0, itemMark == 0, !discardsItem else { return nil }
    guard attributesLeft >= count, buffer.count + byteCount <= byteEnd else {
      droppedAttributeCount += UInt64(count)
      return nil
    }
    attributesLeft &-= count
    let room = buffer.reserve(byteCount)
    buffer.commit(byteCount)
    return room
  }

  // MARK: Shared by the attribute writers

  /// Whether one more attribute may be written; counts it or the drop.
  @inline(__always)
  mutating func admitAttribute() -> Bool {
    guard attributesLeft > 0, buffer.count < byteEnd else {
      refuseAttribute()
      return false
    }
    attributesLeft &-= 1
    return true
  }

  @inline(never)
  private mutating func refuseAttribute() {
    guard spanMark != 0, !discardsItem else { return }
    if itemMark == 0 { droppedAttributeCount += 1 } else { itemDroppedAttributeCount += 1 }
  }

  /// Span.flags and Link.flags: the trace's flags, 0x100 "remoteness is known", 0x200 "the parent is remote".
  private func putFlags(
    _ cursor: inout ProtobufCursor, tagLow: UInt8, tagHigh: UInt8, context: SpanContext, isRemote: Bool
  ) {
    cursor.put(tagLow)
    cursor.put(tagHigh)
    cursor.put(fixed32: UInt32(context.flags) | (isRemote ? 0x300 : 0x100))
  }

  private mutating func putDroppedCounts() {
    if droppedAttributeCount > 0 { buffer.append(field: 10, varint: droppedAttributeCount) }
    if droppedEventCount > 0 { buffer.append(field: 12, varint: droppedEventCount) }
    if droppedLinkCount > 0 { buffer.append(field: 14, varint: droppedLinkCount) }
  }
}
