// Requests that wait until some worker has less prefill before it (Dynamo 1.6's router queue).

package import Base

/// Which waiting request goes first, within its tier of strict priority.
package enum QueuePolicy: Sendable, CaseIterable {
  /// The earliest arrival, less the seconds of its priority jump.
  case firstComeFirstServed
  /// The largest (1 + priority) / tokens that are not cached.
  case weightedShortestPrefill

  /// The policy's name on the command line.
  package var name: String {
    switch self {
    case .firstComeFirstServed: "fcfs"
    case .weightedShortestPrefill: "wspt"
    }
  }
}

/// When requests wait, in which order, and how many may.
package struct QueueOptions: Sendable, Equatable {
  /// A worker is full above this share of the prompt tokens that it computes at once.
  package var threshold: Double
  package var policy = QueuePolicy.firstComeFirstServed
  /// Waiting requests for each live worker; one more is refused.
  package var requestsPerWorkerMax = 256
  /// Prompt tokens of all waiting requests together.
  package var tokensMax = 16 << 20
  /// Once the oldest has waited for longer than this the newest goes first, until that is over: who came lately is
  /// still there and served in time, where strict order would have everybody wait for longer than callers do. Nil keeps
  /// the order.
  package var newestFirstAfter: Nanoseconds?
  /// How long a worker's room is kept for a request that was told to try again.
  package var reservationLife: Nanoseconds = 5 * second

  package init(threshold: Double) { self.threshold = threshold }
}

/// A waiting request's place. Used up once the request was placed or cancelled; then it does nothing.
package struct QueueTicket: Sendable, Hashable {
  let index: Int32
  let generation: UInt32
}

/// Counters of one queue.
package struct QueueStatistics: Sendable, Equatable {
  package internal(set) var waiting = 0
  package internal(set) var waitingTokens = 0
  /// Told to try again, and not back yet.
  package internal(set) var released = 0
  package internal(set) var queuedTotal = 0
  package internal(set) var releasedTotal = 0
  package internal(set) var cancelledTotal = 0
  package internal(set) var refusedTotal = 0
  /// Reservations that ran out because nobody came back.
  package internal(set) var expiredTotal = 0
  /// Released before others whose turn it was, because those had waited for too long.
  package internal(set) var newestFirstTotal = 0
}

/// The waiting requests in a binary heap that knows each one's place, so that any can leave in O(log n).
///
/// Invariant: `heap[slots[i].place] == i` for waiting slots; a slot is free, waiting, or released. The waiting ones are
/// linked in the order of their arrival from `oldest` to `newest`.
struct RouterQueue {
  /// Lower goes first.
  struct Order: Comparable {
    let strictPriority: Int
    let key: Double
    let sequence: UInt64

    static func < (a: Order, b: Order) -> Bool {
      if a.strictPriority != b.strictPriority { return a.strictPriority > b.strictPriority }
      return a.key != b.key ? a.key < b.key : a.sequence < b.sequence
    }
  }

  enum State {
    case free
    case waiting
    /// `slot` is -1 when nothing is reserved, for a request that no worker may take.
    case released(slot: Int32, worker: UInt64, at: Nanoseconds)
  }

  struct Waiting {
    var generation: UInt32
    var state = State.waiting
    var order: Order
    var place = 0
    var tokens: Int
    /// Tokens that no worker caches; what a reservation takes.
    var uncached: Int
    /// Who may take it, without the chain.
    var request: RoutingRequest
    let arrived: Nanoseconds
    /// The waiting requests that came before and after it; -1 for none.
    var older: Int32 = -1
    var newer: Int32 = -1
  }

  private(set) var slots: [Waiting] = []
  private var free: [Int32] = []
  private(set) var heap: [Int32] = []
  private var oldest: Int32 = -1
  private var newest: Int32 = -1
  /// In the order of their release; entries of requests that came back are passed over.
  private var releases: [QueueTicket] = []
  private var releasesStart = 0
  private var lastGeneration: UInt32 = 0
  private var lastSequence: UInt64 = 0
  var statistics = QueueStatistics()

  var isEmpty: Bool { heap.isEmpty }

  /// The ticket's slot while it is waiting or released.
  func find(_ ticket: QueueTicket) -> Int? {
    let index = Int(ticket.index)
    guard slots.indices.contains(index), slots[index].generation == ticket.generation else { return nil }
    if case .free = slots[index].state { return nil }
    return index
  }

  mutating func add(_ request: RoutingRequest, uncached: Int, policy: QueuePolicy, now: Nanoseconds)
    -> QueueTicket
  {
    lastSequence += 1
    let jump = request.priorityJump.isFinite ? min(max(request.priorityJump, -1e6), 1e6) : 0
    let key =
      switch policy {
      case .firstComeFirstServed: Double(now) - jump * 1e9
      case .weightedShortestPrefill: -max(0, 1 + jump) / Double(max(1, uncached))
      }
    lastGeneration &+= 1
    var bare = request
    // The chain's memory is the caller's; it is given again when the request is.
    bare.chain = UnsafeBufferPointer(start: nil, count: 0)
    let waiting = Waiting(
      generation: lastGeneration,
      order: Order(strictPriority: request.strictPriority, key: key, sequence: lastSequence),
      tokens: request.tokens, uncached: max(1, uncached), request: bare, arrived: now, older: newest)
    let index: Int32
    if let used = free.popLast() {
      index = used
      slots[Int(index)] = waiting
    } else {
      index = Int32(slots.count)
      slots.append(waiting)
    }
    if newest >= 0 { slots[Int(newest)].newer = index } else { oldest = index }
    newest = index
    push(index)
    statistics.queuedTotal += 1
    statistics.waiting += 1
    statistics.waitingTokens += request.tokens
    return QueueTicket(index: index, generation: lastGeneration)
  }

  /// Takes a waiting request out of the order and notes what was reserved for it.
  mutating func release(_ index: Int32, slot: Int32, worker: UInt64, now: Nanoseconds) -> QueueTicket {
    remove(at: slots[Int(index)].place)
    leaveWaiting(index)
    slots[Int(index)].state = .released(slot: slot, worker: worker, at: now)
    statistics.released += 1
    statistics.releasedTotal += 1
    let ticket = QueueTicket(index: index, generation: slots[Int(index)].generation)
    releases.append(ticket)
    return ticket
  }

  /// Ends a ticket in any state, and returns what was reserved for it.
  mutating func end(_ index: Int) -> (slot: Int32, worker: UInt64, tokens: Int)? {
    let waiting = slots[index]
    slots[index].request.excluded = []
    slots[index].request.allowed = nil
    slots[index].state = .free
    var reserved: (slot: Int32, worker: UInt64, tokens: Int)?
    switch waiting.state {
    case .free: return nil
    case .waiting:
      remove(at: waiting.place)
      leaveWaiting(Int32(index))
    case .released(let slot, let worker, _):
      statistics.released -= 1
      if slot >= 0 { reserved = (slot, worker, waiting.uncached) }
    }
    free.append(Int32(index))
    if free.count == slots.count { empty() }
    return reserved
  }

  /// The longest released ticket whose time is up; nil when there is none.
  mutating func expired(now: Nanoseconds, life: Nanoseconds) -> Int? {
    while releasesStart < releases.count {
      if let index = find(releases[releasesStart]), case .released(_, _, let at) = slots[index].state {
        return at &+ life <= now ? index : nil
      }
      releasesStart += 1
      // Passed entries go when they are the larger half, which costs each one move.
      if releasesStart * 2 > releases.count {
        releases.removeFirst(releasesStart)
        releasesStart = 0
      }
    }
    return nil
  }

  /// All state goes when nobody is left; generations go on, so that old tickets stay void.
  private mutating func empty() {
    slots = []
    free = []
    heap = []
    releases = []
    releasesStart = 0
    oldest = -1
    newest = -1
  }

  private mutating func leaveWaiting(_ index: Int32) {
    statistics.waiting -= 1
    statistics.waitingTokens -= slots[Int(index)].tokens
    let (older, newer) = (slots[Int(index)].older, slots[Int(index)].newer)
    if older >= 0 { slots[Int(older)].newer = newer } else { oldest = newer }
    if newer >= 0 { slots[Int(newer)].older = older } else { newest = older }
  }
}

// MARK: Under overload

extension RouterQueue {
  /// Requests that are passed over at most, because others have priority, in the search for the newest.
  private static let passedMax = 64

  /// The newest of those with the highest strict priority, once the oldest of all has waited for longer than `bound`.
  /// Nil before that, and where those with priority are not among the newest ones.
  func newestUnderOverload(after bound: Nanoseconds?, now: Nanoseconds) -> Int32? {
    guard let bound, oldest >= 0, let head = heap.first, slots[Int(oldest)].arrived &+ bound < now else {
      return nil
    }
    let priority = slots[Int(head)].order.strictPriority
    var index = newest
    for _ in 0..<Self.passedMax where index >= 0 {
      if slots[Int(index)].order.strictPriority == priority { return index }
      index = slots[Int(index)].older
    }
    return nil
  }
}

// MARK: The heap

extension RouterQueue {
  private mutating func push(_ index: Int32) {
    heap.append(index)
    slots[Int(index)].place = heap.count - 1
    rise(heap.count - 1)
  }

  private mutating func remove(at place: Int) {
    let last = heap.count - 1
    if place < last { exchange(place, last) }
    heap.removeLast()
    if place < heap.count {
      rise(place)
      sink(place)
    }
  }

  private mutating func rise(_ start: Int) {
    var place = start
    while place > 0, slots[Int(heap[place])].order < slots[Int(heap[(place - 1) / 2])].order {
      exchange(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  private mutating func sink(_ start: Int) {
    var place = start
    while true {
      var least = place
      for child in [2 * place + 1, 2 * place + 2]
      where child < heap.count && slots[Int(heap[child])].order < slots[Int(heap[least])].order {
        least = child
      }
      if least == place { return }
      exchange(place, least)
      place = least
    }
  }

  private mutating func exchange(_ a: Int, _ b: Int) {
    heap.swapAt(a, b)
    slots[Int(heap[a])].place = a
    slots[Int(heap[b])].place = b
  }

  /// A walk through the waiting requests in their order. Void once the queue has changed.
  struct Walk {
    /// The next in order is a child, in the heap, of one already seen. Last here is first in order.
    fileprivate var places: [Int]
  }

  func walk() -> Walk { Walk(places: heap.isEmpty ? [] : [0]) }

  /// The walk's next request; each costs the logarithm of those seen.
  func next(_ walk: inout Walk) -> Int32? {
    guard let place = walk.places.popLast() else { return nil }
    for child in [2 * place + 1, 2 * place + 2] where child < heap.count {
      walk.places.insert(child, at: walk.places.partition { order(of: $0) < order(of: child) })
    }
    return heap[place]
  }

  private func order(of place: Int) -> Order { slots[Int(heap[place])].order }
}

extension [Int] {
  /// The index of the first element of which `belongs` says true, when all of those stand behind all others.
  fileprivate func partition(_ belongs: (Int) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if belongs(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
