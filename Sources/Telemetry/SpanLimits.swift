// The bounds of one span, and the SDK's variables that set them.

internal import Base

/// Bounds of one span. What lies beyond is left out and counted in the span's own dropped counts.
package struct SpanLimits: Sendable, Equatable {
  /// Bytes of one string value; longer ones are cut on a character's edge.
  package var valueBytesMax = 4_096
  /// Characters (code points) of one string value; longer ones are cut (OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT).
  package var valueCharactersMax = Int.max
  /// Attributes of one span (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT).
  package var attributeCountMax = 128
  /// Attributes of one event (OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT).
  package var eventAttributeCountMax = 128
  /// Attributes of one link (OTEL_LINK_ATTRIBUTE_COUNT_LIMIT).
  package var linkAttributeCountMax = 128
  /// Events of one span (OTEL_SPAN_EVENT_COUNT_LIMIT).
  package var eventCountMax = 128
  /// Links of one span (OTEL_SPAN_LINK_COUNT_LIMIT).
  package var linkCountMax = 128
  /// Elements of one array value.
  package var elementCountMax = 128
  /// Bytes of one span after which it takes nothing more; must leave room below the 2 MiB of a padded length.
  package var spanBytesMax = 131_072

  package init() {}

  /// No value of as many bytes is cut: a character takes at least one.
  @inline(__always)
  var uncutBytes: Int { min(valueBytesMax, valueCharactersMax) }

  /// The longest start of a string value that is recorded; a whole number of characters.
  @inline(__always)
  func cut(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    value.count <= uncutBytes ? value : shorten(value)
  }

  @inline(never)
  private func shorten(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var end = 0
    var characters = 0
    while end < value.count {
      // Continuation bytes belong to the character before them.
      if value[end] & 0xc0 != 0x80 {
        if characters == valueCharactersMax { break }
        characters += 1
      }
      end += 1
    }
    return BoundedText.cut(value.slice(0..<end), to: valueBytesMax)
  }
}

extension SpanLimits {
  /// More than a span can hold in bytes.
  private static let countMax = 65_536

  /// Reads the SDK's variables. The general ones hold where the ones for spans, events and links are not set; a value
  /// that is no number is named in `warnings` and ignored.
  package static func from(environment: [String: String], warnings: inout [String]) -> SpanLimits {
    var limits = SpanLimits()
    func read(_ names: [String]) -> Int? {
      for name in names {
        guard let text = environment[name]?.filter({ $0 != " " && $0 != "\t" }), !text.isEmpty else {
          continue
        }
        if let value = Int(text), value >= 0 { return value }
        warnings.append("\(name) is no number from 0 and is ignored")
      }
      return nil
    }
    func count(_ names: String...) -> Int? { read(names).map { min($0, countMax) } }
    let general = EnvironmentName.attributeCountLimit
    limits.attributeCountMax = count(EnvironmentName.spanAttributeCountLimit, general) ?? 128
    let inherited = count(general) ?? 128
    limits.eventAttributeCountMax = count(EnvironmentName.eventAttributeCountLimit) ?? inherited
    limits.linkAttributeCountMax = count(EnvironmentName.linkAttributeCountLimit) ?? inherited
    limits.eventCountMax = count(EnvironmentName.spanEventCountLimit) ?? 128
    limits.linkCountMax = count(EnvironmentName.spanLinkCountLimit) ?? 128
    if let length = read([
      EnvironmentName.spanAttributeValueLengthLimit, EnvironmentName.attributeValueLengthLimit,
    ]) {
      limits.valueCharactersMax = length
      // Who asks for more than the default gets it, as far as a span goes.
      limits.valueBytesMax = max(limits.valueBytesMax, min(length, limits.spanBytesMax / 8) * 4)
    }
    // The general one is read twice.
    var seen: Set<String> = []
    warnings.removeAll { !seen.insert($0).inserted }
    return limits
  }
}
