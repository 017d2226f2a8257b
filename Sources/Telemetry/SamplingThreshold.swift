// Consistent probability sampling: the threshold that a share of traces stands for, and the `ot` member of tracestate
// by which it travels (OpenTelemetry specification, "TraceState: Probability Sampling" and "TraceState Handling").

internal import Base

/// How many of 2^56 equally likely traces are rejected. A trace is kept when its 56 random bits are not below it, so what
/// a lower share keeps is a subset of what a higher one keeps, in every process.
package struct SamplingThreshold: Sendable, Equatable {
  /// At most 2^56, which rejects every trace.
  package let rejected: UInt64

  /// Rejects none.
  package static let zero = SamplingThreshold(rejected: 0)

  private static let all: UInt64 = 1 << 56

  private init(rejected: UInt64) { self.rejected = rejected }

  /// The threshold for a share, to `digits` significant hexadecimal digits (the specification recommends four): what is
  /// written to tracestate is exactly what is decided by. A share below 2^-56 rejects all.
  package init(keeping share: Double, digits: Int = 4) {
    if share >= 1 {
      rejected = 0
    } else if share >= 0x1p-56 {
      // One more digit for each leading `f`.
      let digits = max(1, min(12, digits + Int(-(share.exponent + 1)) / 4))
      // 1 + the rejected share, rounded half up to the last digit: its fraction's 52 bits are 13 digits.
      let rounded = 2 - share + Double(sign: .plus, exponent: -4 * digits - 1, significand: 1)
      let fraction = rounded >= 2 ? 0xf_ffff_ffff_ffff : rounded.significandBitPattern
      rejected = (fraction >> UInt64(52 - 4 * digits)) << UInt64(56 - 4 * digits)
    } else {
      rejected = SamplingThreshold.all
    }
  }

  /// Reads a `th` value: 1 to 14 hexadecimal digits, with the zeros at the end left out.
  init?(_ text: UnsafeRawBufferPointer) {
    guard (1...14).contains(text.count) else { return nil }
    var value: UInt64 = 0
    for byte in text {
      guard let digit = Hex.value(byte) else { return nil }
      value = value << 4 | UInt64(digit)
    }
    rejected = value << UInt64(4 * (14 - text.count))
  }

  /// True when a trace with these 56 random bits is kept.
  package func keeps(_ randomness: UInt64) -> Bool { randomness >= rejected }

  /// The `th` value. Only for one that keeps something.
  var text: [UInt8] {
    guard rejected > 0 else { return [UInt8(ascii: "0")] }
    var digits = (0..<14).map { Hex.digit(UInt8(truncatingIfNeeded: rejected >> UInt64(52 - 4 * $0)) & 0xf) }
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    return digits
  }
}

/// The `ot` member of a tracestate that was found valid (``TraceState``), and the list without it.
struct OpenTelemetryState {
  /// `rv`: stands for the trace id's random bits.
  private(set) var randomness: UInt64?
  /// `th`: the share of traces that is kept by all who decided so far.
  private(set) var threshold: SamplingThreshold?
  /// The member's other parts, `key:value` with semicolons between.
  private var others: [UInt8] = []
  /// `rv` as it came: it is passed on as it is.
  private var randomnessText: [UInt8] = []
  /// The other members of the list, in order.
  private var members: [ArraySlice<UInt8>] = []

  /// Longest value of a member (W3C Trace Context level 2, section 3.3.1.3.2).
  private static let valueBytesMax = 256

  init(_ state: [UInt8]) {
    for member in state.split(separator: UInt8(ascii: ",")) {
      if member.starts(with: "ot=".utf8) {
        // Keys are meant to be unique; of two the first is the later writer's.
        if others.isEmpty, threshold == nil, randomness == nil { read(member.dropFirst(3)) }
      } else {
        members.append(member)
      }
    }
  }

  private mutating func read(_ value: ArraySlice<UInt8>) {
    for part in value.split(separator: UInt8(ascii: ";")) {
      let content = Array(part.dropFirst(3))
      if part.starts(with: "th:".utf8) {
        threshold = content.withUnsafeBytes { SamplingThreshold($0) }
      } else if part.starts(with: "rv:".utf8) {
        guard content.count == 14, let number = content.withUnsafeBytes({ Hex.lowercase($0) }) else {
          continue
        }
        randomness = number
        randomnessText = content
      } else {
        if !others.isEmpty { others.append(UInt8(ascii: ";")) }
        others += part
      }
    }
  }

  /// The list with this threshold in it, or with none: the changed member goes to the left, the others keep their order.
  func list(_ threshold: SamplingThreshold?) -> [UInt8] {
    var value: [UInt8] = []
    func add(_ key: StaticString, _ content: [UInt8]) {
      if content.isEmpty { return }
      if !value.isEmpty { value.append(UInt8(ascii: ";")) }
      value += Array(key.description.utf8) + content
    }
    if let threshold { add("th:", threshold.text) }
    add("rv:", randomnessText)
    add("", others)
    var list: [UInt8] = []
    // A value that no longer fits goes whole: half of it would say something else.
    if !value.isEmpty, value.count <= Self.valueBytesMax { list = Array("ot=".utf8) + value }
    for member in members.prefix(TraceState.memberCountMax - (list.isEmpty ? 0 : 1)) {
      if !list.isEmpty { list.append(UInt8(ascii: ",")) }
      list += member
    }
    return list
  }
}
