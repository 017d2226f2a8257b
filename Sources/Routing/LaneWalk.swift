// How many leading blocks of a chain each lane of a table holds, found for all lanes together.

/// A walk along a chain, with the lanes that hold all of it so far.
///
/// Engines evict children before their parents, so a lane that holds a block is taken to hold those before it: only every
/// ``stride``th block is asked for, and where lanes have dropped out, the stretch is halved until it is known behind which
/// block each did. A chain that all lanes hold, or none, so costs a few look-ups, and one that each holds to another depth
/// far fewer than it has blocks.
///
/// Where an engine leaves holes all the same, a lane ends at some hole of the chain, and never before the first.
struct LaneWalk {
  /// Blocks between two that are asked for, and so the longest prefix that a hole can be overlooked in.
  static let stride = 32

  let chain: UnsafeBufferPointer<UInt64>
  /// The leading blocks that each lane holds: where it joins the walk, and then where it dropped out.
  let ends: UnsafeMutablePointer<Int32>
  /// Leading blocks that the lanes in `alive` hold.
  private var reached = 0
  private var alive: UInt64 = 0

  init(_ chain: UnsafeBufferPointer<UInt64>, ends: UnsafeMutablePointer<Int32>) {
    self.chain = chain
    self.ends = ends
  }

  /// Raises the ends of `lanes` for as long as `table` says that they hold the next block. A lane joins at its own end.
  mutating func extend(_ lanes: UInt64, in table: borrowing EventTable) {
    var waiting = lanes
    var nextJoin = 0
    // Of those that join most may not hold one block more, so that one is asked for by itself.
    var stretch = 1
    while reached < chain.count {
      if reached == nextJoin {
        nextJoin = Int.max
        waiting.forEachLane { lane in
          if ends[lane] == reached {
            alive |= 1 << UInt64(lane)
          } else {
            nextJoin = min(nextJoin, Int(ends[lane]))
          }
        }
        waiting &= ~alive
        stretch = 1
      }
      if alive != 0 {
        let next = min(reached &+ stretch, chain.count, nextJoin)
        advance(to: next, heldBy: table.lanes(of: chain[next &- 1]), in: table)
        stretch = Self.stride
      } else if waiting != 0 {
        reached = nextJoin
      } else {
        return
      }
    }
    drop(alive)
  }

  /// Goes on to where `end` blocks are reached, the last of which `holders` have.
  private mutating func advance(to end: Int, heldBy holders: UInt64, in table: borrowing EventTable) {
    while alive & ~holders != 0, end &- reached > 1 {
      let middle = (reached &+ end) / 2
      advance(to: middle, heldBy: table.lanes(of: chain[middle &- 1]), in: table)
    }
    drop(alive & ~holders)
    reached = end
  }

  /// Lanes end where the walk is.
  private mutating func drop(_ lanes: UInt64) {
    let end = Int32(truncatingIfNeeded: reached)
    lanes.forEachLane { ends[$0] = end }
    alive &= ~lanes
  }
}

extension UInt64 {
  /// Calls `body` with each lane of the set.
  @inline(__always)
  func forEachLane(_ body: (Int) -> Void) {
    var left = self
    while left != 0 {
      body(left.trailingZeroBitCount)
      left &= left &- 1
    }
  }
}
