// The parameters of a request to the query API.

internal import Base

/// Names and values of a URL's query, decoded.
struct QueryParameters {
  private let pairs: [(name: String, value: [UInt8])]

  /// Reads `name=value&...` with `%XX` and `+`; nil reads as no parameters.
  init(_ query: UnsafeRawBufferPointer?) {
    pairs = (query ?? UnsafeRawBufferPointer(start: nil, count: 0)).split(separator: UInt8(ascii: "&")).map {
      pair in
      let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      return (
        String(decoding: Self.decoded(parts[0]), as: UTF8.self), parts.count > 1 ? Self.decoded(parts[1]) : []
      )
    }
  }

  private static func decoded(_ text: Slice<UnsafeRawBufferPointer>) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = text
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "+") {
        bytes.append(0x20)
      } else if byte == UInt8(ascii: "%"), rest.count >= 2, let high = Hex.value(rest[rest.startIndex]),
        let low = Hex.value(rest[rest.startIndex + 1])
      {
        bytes.append(high << 4 | low)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte)
      }
    }
    return bytes
  }

  /// The value of the first parameter called `name`; nil when there is none, or it is empty.
  func bytes(_ name: String) -> [UInt8]? {
    pairs.first { $0.name == name && !$0.value.isEmpty }?.value
  }

  func text(_ name: String) -> String? { bytes(name).map { String(decoding: $0, as: UTF8.self) } }

  /// A whole number of at least `least`.
  func number(_ name: String, least: Int = 0) throws(BadRequest) -> Int? {
    guard let text = text(name) else { return nil }
    guard let number = Int(text), number >= least else {
      throw BadRequest(message: "invalid \(name): must be a whole number of at least \(least)")
    }
    return number
  }

  /// `start` and `end` in Unix seconds as nanoseconds; nil when neither is given.
  func range() throws(BadRequest) -> ClosedRange<UInt64>? {
    let start = try number("start") ?? 0
    let end = try number("end") ?? 0
    if start == 0, end == 0 { return nil }
    guard start > 0, end > 0 else {
      throw BadRequest(message: "please provide non-zero values for http parameters start and end")
    }
    guard start <= end else {
      throw BadRequest(message: "http parameter start must be before end. received start=\(start) end=\(end)")
    }
    // To the end of the last second: a span that began within it is meant.
    return Self.nanoseconds(start)...(Self.nanoseconds(end) + 999_999_999)
  }

  private static func nanoseconds(_ seconds: Int) -> UInt64 { UInt64(min(seconds, 18_000_000_000)) * second }

  /// A point in time in Unix seconds, with a fraction or not, or in nanoseconds where it has more than ten digits; as
  /// nanoseconds.
  func time(_ name: String) throws(BadRequest) -> UInt64? {
    guard let text = text(name) else { return nil }
    let isNanoseconds = text.utf8.count > 10 && !text.contains(".")
    guard let value = isNanoseconds ? UInt64(text).map(Double.init) : Double(text).map({ $0 * 1e9 }),
      value >= 0,
      value < Self.timeMax
    else { throw BadRequest(message: "invalid \(name): must be a Unix time in seconds or nanoseconds") }
    return isNanoseconds ? UInt64(text) : UInt64((value / 1e6).rounded()) * millisecond
  }

  /// The length of an interval: a duration, or a number of seconds.
  func step() throws(BadRequest) -> UInt64? {
    guard let text = text("step") else { return nil }
    if let seconds = Double(text), seconds >= 0.001, seconds * 1e9 < Self.timeMax {
      return UInt64((seconds * 1e3).rounded()) * millisecond
    }
    guard let length = try duration("step"), length >= millisecond, Double(length) < Self.timeMax else {
      throw BadRequest(message: "invalid step: must be a duration of at least 1ms")
    }
    return length
  }

  /// Far enough from the end of 64 bits to be reckoned with.
  private static let timeMax = 4e18

  /// A length of time as Go writes it, in nanoseconds.
  func duration(_ name: String) throws(BadRequest) -> UInt64? {
    guard let bytes = bytes(name) else { return nil }
    guard let value = TraceQLLexer.duration(bytes[...]), value >= 0 else {
      throw BadRequest(message: "invalid \(name): must be a duration such as 100ms or 1.5s")
    }
    return UInt64(value)
  }

  /// The TraceQL query under `name`; nil when there is none.
  func query(_ name: String) throws(BadRequest) -> TraceQLQuery? {
    guard let bytes = bytes(name) else { return nil }
    do throws(TraceQLError) {
      return try TraceQLParser.parse(bytes)
    } catch {
      throw BadRequest(message: error.description)
    }
  }
}

/// Why a request gets a 400.
struct BadRequest: Error, Equatable {
  let message: String
}
