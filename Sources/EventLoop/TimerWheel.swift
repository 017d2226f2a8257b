// Deadlines of one loop: a hierarchical timing wheel of intrusive nodes, O(1) to arm and to cancel.

package import Base

/// Is told when its timer fires, on its loop.
package protocol TimerHandler: AnyObject {
  /// `timer` reached its deadline and is no longer armed.
  func timerFired(_ timer: Timer)
}

/// One deadline that can be armed, moved and cancelled without allocation. While armed it keeps its handler alive.
package final class Timer {
  /// Tells several timers of one owner apart.
  package let tag: UInt8
  fileprivate(set) package var deadline: Nanoseconds = 0
  fileprivate var handler: (any TimerHandler)?
  fileprivate var next: Timer?
  // The previous node keeps this one alive, so it outlives the link.
  fileprivate unowned(unsafe) var previous: Timer?
  fileprivate var place = -1

  package init(tag: UInt8 = 0) { self.tag = tag }

  /// True from arming until it fired or was cancelled.
  package var isArmed: Bool { place >= 0 }
}

/// Four levels of 64 slots; a slot of level n spans 64^n milliseconds. Farther deadlines wait in the last level.
///
/// Invariant: bit i of `occupied[level]` is set exactly when that slot's list is not empty.
/// A class, because handlers arm timers while ``advance(to:)`` is under way.
final class TimerWheel {
  private static let levels = 4
  private static let resolution = millisecond
  private var heads: [Timer?] = Array(repeating: nil, count: levels * 64)
  private var occupied: [UInt64] = Array(repeating: 0, count: levels)
  /// The last tick whose timers fired.
  private var current: UInt64

  init(now: Nanoseconds) { current = now / Self.resolution }

  func arm(_ timer: Timer, at deadline: Nanoseconds, _ handler: any TimerHandler) {
    if timer.place >= 0 { unlink(timer) }
    timer.deadline = deadline
    timer.handler = handler
    // The current tick has already fired.
    link(timer, earliest: current + 1)
  }

  func cancel(_ timer: Timer) {
    guard timer.place >= 0 else { return }
    unlink(timer)
    timer.handler = nil
  }

  /// Disarms every timer.
  func removeAll() {
    for slot in heads.indices {
      // One by one: a list that is let go of at its head would be freed by recursion.
      while let timer = heads[slot] { cancel(timer) }
    }
  }

  /// The earliest instant at which ``advance(to:)`` may have work; nil when nothing is armed. Never later than a deadline
  /// rounded up to a tick.
  var nextDeadline: Nanoseconds? {
    var best: UInt64?
    for level in 0..<Self.levels where occupied[level] != 0 {
      let shift = UInt64(level * 6)
      let position = current >> shift
      // Rotate so that bit 0 is the slot after the current one: the distance to the next occupied slot.
      let offset = (position &+ 1) & 63
      let rotated = (occupied[level] >> offset) | (occupied[level] << ((64 - offset) & 63))
      let distance = UInt64(rotated.trailingZeroBitCount) + 1
      let tick = (position + distance) << shift
      if best.map({ tick < $0 }) ?? true { best = tick }
    }
    return best.map { $0 * Self.resolution }
  }

  /// Fires every timer whose deadline is not after `now`.
  func advance(to now: Nanoseconds) {
    let target = now / Self.resolution
    while current < target {
      guard let next = nextDeadline.map({ $0 / Self.resolution }), next <= target else {
        current = target
        return
      }
      current = next
      cascade()
      fire(slot: Int(current & 63))
    }
  }

  /// Moves timers of coarser slots that begin at the current tick into finer ones.
  private func cascade() {
    for level in stride(from: Self.levels - 1, to: 0, by: -1) {
      let shift = UInt64(level * 6)
      guard current & ((1 << shift) - 1) == 0 else { continue }
      let slot = level * 64 + Int((current >> shift) & 63)
      var node = takeAll(slot)
      while let timer = node {
        node = timer.next
        timer.next = nil
        link(timer, earliest: current)
      }
    }
  }

  private func fire(slot: Int) {
    var node = takeAll(slot)
    while let timer = node {
      node = timer.next
      timer.next = nil
      timer.previous = nil
      timer.place = -1
      // A handler may cancel or move a later timer of this list: it finds it detached from the wheel, so keep the
      // remaining ones linked in a private list under the same place.
      if let rest = node { relink(rest, slot) }
      let handler = timer.handler
      timer.handler = nil
      handler?.timerFired(timer)
      node = takeAll(slot)
    }
  }

  private func relink(_ head: Timer, _ slot: Int) {
    // Timers that the handlers arm for this very slot lie a full turn ahead and cannot be there yet.
    head.previous = nil
    heads[slot] = head
    occupied[slot >> 6] |= 1 << UInt64(slot & 63)
  }

  private func takeAll(_ slot: Int) -> Timer? {
    let head = heads[slot]
    heads[slot] = nil
    occupied[slot >> 6] &= ~(1 << UInt64(slot & 63))
    return head
  }

  private func link(_ timer: Timer, earliest: UInt64) {
    // Rounded up, so that a timer never fires early.
    var tick = max((timer.deadline + Self.resolution - 1) / Self.resolution, earliest)
    let distance = tick - current
    var level = 0
    while level < Self.levels - 1, distance >= 1 << UInt64((level + 1) * 6) { level += 1 }
    let span: UInt64 = 1 << UInt64(Self.levels * 6)
    if distance >= span { tick = current + span - 1 }
    // A coarse slot is opened when it begins: never after the deadline.
    let slot = level * 64 + Int((tick >> UInt64(level * 6)) & 63)
    timer.place = slot
    timer.previous = nil
    timer.next = heads[slot]
    heads[slot]?.previous = timer
    heads[slot] = timer
    occupied[slot >> 6] |= 1 << UInt64(slot & 63)
  }

  private func unlink(_ timer: Timer) {
    let slot = timer.place
    let next = timer.next
    if let previous = timer.previous { previous.next = next } else { heads[slot] = next }
    next?.previous = timer.previous
    timer.next = nil
    timer.previous = nil
    timer.place = -1
    if heads[slot] == nil { occupied[slot >> 6] &= ~(1 << UInt64(slot & 63)) }
  }
}
