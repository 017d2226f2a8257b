// Log probabilities of simulated tokens: made up, the same for the same answer, in vLLM's shape.

internal import Base
internal import JSON

/// The entries of one choice's `logprobs.content`. Each piece of text that is shown counts as a token.
final class SimulatedLogprobs {
  /// What else could have come next, the same everywhere.
  private static let others = [
    " the", " a", " and", " to", " of", " in", " is", " that", " it", " for", " with", " as", " on", " was",
    " at",
    " by", " be", " this", " from", " or", " an",
  ]

  private let topCount: Int
  private var position: UInt64 = 0
  private var entries = ByteBuffer()

  /// - Parameter topCount: likely tokens told with each, its own among them; at most 20.
  init(topCount: Int) { self.topCount = topCount }

  /// Adds what is told of `token`.
  func add(_ token: UnsafeRawBufferPointer) {
    if !entries.isEmpty { entries.append(UInt8(ascii: ",")) }
    position += 1
    // Between 0 and -2.4, mostly near 0, as those of a model that is sure of itself.
    let draw = Double(XXH3.hash(token, seed: position) % 1_024) / 1_024
    var value = -draw * draw * 2.4
    entries.append(UInt8(ascii: "{"))
    append(token, value)
    entries.append(",\"top_logprobs\":[" as StaticString)
    if topCount > 0 {
      entries.append(UInt8(ascii: "{"))
      append(token, value)
      entries.append(UInt8(ascii: "}"))
    }
    for var other in Self.others.filter({ $0 != token.text }).prefix(max(0, topCount - 1)) {
      value -= 0.75
      entries.append(",{" as StaticString)
      other.withUTF8 { append(UnsafeRawBufferPointer($0), value) }
      entries.append(UInt8(ascii: "}"))
    }
    entries.append("]}" as StaticString)
  }

  private func append(_ token: UnsafeRawBufferPointer, _ value: Double) {
    entries.append("\"token\":" as StaticString)
    entries.append(jsonString: token)
    entries.append(",\"logprob\":" as StaticString)
    entries.append(jsonNumber: value)
    entries.append(",\"bytes\":[" as StaticString)
    for (index, byte) in token.enumerated() {
      if index > 0 { entries.append(UInt8(ascii: ",")) }
      entries.append(decimal: Int(byte))
    }
    entries.append(UInt8(ascii: "]"))
  }

  /// The value of `logprobs` for all that was added since the last call.
  func take() -> [UInt8] {
    var out = ByteBuffer()
    out.append("{\"content\":[" as StaticString)
    out.append(entries.readable)
    out.append("]}" as StaticString)
    entries.removeAll()
    return out.bytes
  }
}
