// Where the present snapshot of the workers hangs, for loops that hear of the next one and for scrapes.

internal import EventLoop
internal import Routing
internal import Synchronization

/// How often KV routers were asked for a worker, and found one.
struct SelectionCounts: Sendable {
  var selections = 0
  var decisions = 0

  mutating func add(_ model: ServedModel) {
    guard case .kv = model.routing.options.mode else { return }
    let statistics = model.routing.statistics
    selections += statistics.selections
    decisions += statistics.decisions
  }
}

/// The present snapshot and who wants to hear of the next.
final class SnapshotBoard: Sendable {
  private struct Subscriber: Sendable {
    let mailbox: Mailbox
    let adopt: @Sendable (EventLoop, WorkerSet) -> Void
  }

  private struct State {
    var current = WorkerSet.empty
    /// Of models that are forgotten.
    var formerCounts = SelectionCounts()
    var subscribers: [Subscriber] = []
  }

  private let state = Mutex(State())

  var current: WorkerSet { state.withLock { $0.current } }

  /// Of all models that there are and were.
  var selectionCounts: SelectionCounts {
    state.withLock { state in
      var counts = state.formerCounts
      for model in state.current.pools { counts.add(model) }
      return counts
    }
  }

  // Both submit under the lock: a subscriber must not get an older snapshot after a newer one.

  func subscribe(_ mailbox: Mailbox, _ adopt: @escaping @Sendable (EventLoop, WorkerSet) -> Void) {
    state.withLock { state in
      state.subscribers.append(Subscriber(mailbox: mailbox, adopt: adopt))
      let set = state.current
      mailbox.submit { adopt($0, set) }
    }
  }

  func publish(_ set: WorkerSet) {
    state.withLock { state in
      let present = set.pools
      for model in state.current.pools where !present.contains(where: { $0.routing === model.routing }) {
        state.formerCounts.add(model)
      }
      state.current = set
      for subscriber in state.subscribers {
        let adopt = subscriber.adopt
        subscriber.mailbox.submit { adopt($0, set) }
      }
    }
  }
}
