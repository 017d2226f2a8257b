// What engines tell of their caches, on its way into the routing state.

internal import Base
internal import Routing

extension ModelRouting {
  /// Applies a worker's operations in order, in slices: whoever decides meanwhile waits for one of them at most.
  func apply(_ operations: [CacheOperation], worker: UInt64) {
    operations.withUnsafeBufferPointer { all in
      var rest = all[...]
      while !rest.isEmpty {
        let applied = locked { router.applySlice(worker: worker, UnsafeBufferPointer(rebasing: rest)) }
        rest = rest.dropFirst(applied)
      }
    }
  }

  /// Says by what a worker's cached blocks are counted from the next decision on.
  func setSource(_ source: CacheSource, _ reason: CacheSourceReason, worker: UInt64) {
    locked { router.setSource(worker: worker, source, reason: reason) }
  }

  /// Forgets all that a worker's events told.
  func clearEvents(worker: UInt64) {
    locked { router.clearEvents(worker: worker) }
  }

  /// True when events were refused for want of memory.
  func lacksEvents(worker: UInt64) -> Bool {
    locked { router.eventState(of: worker)?.isIncomplete ?? false }
  }

  /// True when what the engine reports of its hits contradicts what was expected of its cache. Asking again then begins
  /// anew.
  func takeDrift(worker: UInt64) -> Bool {
    locked {
      guard router.truth(of: worker)?.isDrifting == true else { return false }
      router.resetTruth(worker: worker)
      return true
    }
  }
}
