// Which worker a session was served by last.

package import Base

/// Limits of ``SessionAffinity``.
package struct SessionAffinityOptions: Sendable, Equatable {
  /// Life of a session without requests.
  package var life: Nanoseconds
  /// The most sessions; the one that was quiet for longest goes first. About 90 bytes each.
  package var sessionsMax: Int

  package init(life: Nanoseconds = 600 * second, sessionsMax: Int = 65_536) {
    self.life = life
    self.sessionsMax = sessionsMax
  }
}

/// A bounded table from a session's hash to a worker.
///
/// Invariant: records form one list from the longest quiet to the latest, so that expiry and the bound take the oldest end.
package struct SessionAffinity: ~Copyable {
  private struct Record: BitwiseCopyable {
    var key: UInt64
    var worker: UInt64
    var touched: Nanoseconds
    var older: Int32 = -1
    var newer: Int32 = -1
  }

  private var records = Slab<Record>()
  private var map = BlockMap()
  private var oldest: Int32 = -1
  private var newest: Int32 = -1
  private let options: SessionAffinityOptions
  /// Sessions that ended because there were too many.
  package private(set) var evictions = 0

  package init(_ options: SessionAffinityOptions = SessionAffinityOptions()) {
    precondition(options.sessionsMax > 0, "a table of sessions holds at least one")
    self.options = options
  }

  /// Sessions held.
  package var count: Int { records.count }

  /// Bytes of memory held.
  package var bytes: Int { records.bytes + map.bytes }

  /// The session's worker; nil when it is new, or was quiet for too long.
  package func worker(of session: UInt64, now: Nanoseconds) -> UInt64? {
    let index = map.find(session)
    guard index >= 0 else { return nil }
    let record = records.base[Int(index)]
    return now < record.touched &+ options.life ? record.worker : nil
  }

  /// The session is served by `worker` now.
  package mutating func set(_ session: UInt64, worker: UInt64, now: Nanoseconds) {
    expire(now: now, budget: 4)
    remove(session)
    if records.count >= options.sessionsMax {
      evictions += 1
      remove(records.base[Int(oldest)].key)
    }
    let index = records.allocate()
    records.base[Int(index)] = Record(key: session, worker: worker, touched: now, older: newest)
    if newest >= 0 { records.base[Int(newest)].newer = index } else { oldest = index }
    newest = index
    map.set(session, index)
  }

  /// Forgets a session.
  package mutating func remove(_ session: UInt64) {
    let index = map.find(session)
    guard index >= 0 else { return }
    let record = records.base[Int(index)]
    if record.older >= 0 {
      records.base[Int(record.older)].newer = record.newer
    } else {
      oldest = record.newer
    }
    if record.newer >= 0 {
      records.base[Int(record.newer)].older = record.older
    } else {
      newest = record.older
    }
    map.remove(session)
    records.release(index)
  }

  /// Forgets sessions that were quiet for too long, at most `budget`.
  package mutating func expire(now: Nanoseconds, budget: Int) {
    var left = budget
    while left > 0, oldest >= 0, records.base[Int(oldest)].touched &+ options.life <= now {
      left -= 1
      remove(records.base[Int(oldest)].key)
    }
  }
}
