// Embeddings of the simulated engine: not a model's, but alike for texts that are alike.

internal import Base

/// A unit vector made of a text's bytes: each run of three bytes adds to one of the dimensions, with a sign. Equal texts
/// have equal vectors, and texts that share many such runs have vectors that point the same way.
package struct SimulatedEmbedding: Sendable {
  package let values: [Float]

  /// - Parameter dimensions: at least 1.
  package init(_ text: UnsafeRawBufferPointer, dimensions: Int) {
    var sums = [Int](repeating: 0, count: dimensions)
    let runs = max(1, text.count - 2)
    for start in 0..<runs {
      let hash = XXH3.hash(text.slice(min(start, text.count)..<min(start + 3, text.count)), seed: 0)
      sums[Int(hash % UInt64(dimensions))] += hash >> 63 == 0 ? 1 : -1
    }
    var length = sums.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    // Runs that cancel each other out leave no direction.
    if length == 0 {
      sums[0] = 1
      length = 1
    }
    values = sums.map { Float(Double($0) / length) }
  }

  /// How alike two texts are, from 0 to 1.
  package func likeness(to other: SimulatedEmbedding) -> Double {
    let cosine = zip(values, other.values).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    return min(1, max(0, (1 + cosine) / 2))
  }
}
