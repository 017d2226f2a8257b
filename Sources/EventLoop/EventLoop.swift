// One epoll reactor: readiness, timers, mailbox and the end-of-tick queue of one thread.

package import Base
internal import CSystem
internal import Glibc

/// What epoll said about a descriptor. A plain struct: an `OptionSet` of another module is built through generic calls.
@usableFromInline
package struct Readiness: Sendable {
  /// The epoll bits.
  @usableFromInline package let bits: UInt32

  @inlinable package init(bits: UInt32) { self.bits = bits }

  /// EPOLLIN: bytes or connections wait.
  @inlinable package var isReadable: Bool { bits & 0x001 != 0 }
  /// EPOLLOUT: output has room.
  @inlinable package var isWritable: Bool { bits & 0x004 != 0 }
  /// EPOLLRDHUP, EPOLLHUP or EPOLLERR: the peer's end or an error, so that reading must go on to the end.
  @inlinable package var hasEnded: Bool { bits & 0x2018 != 0 }

  /// EPOLLERR: an error waits on the descriptor.
  @inlinable package var isError: Bool { bits & 0x008 != 0 }

  package static var readable: Readiness { Readiness(bits: EPOLLIN.rawValue) }
  package static var writable: Readiness { Readiness(bits: EPOLLOUT.rawValue) }
  /// The peer's end, which can always be read as well.
  package static var peerClosed: Readiness { Readiness(bits: EPOLLIN.rawValue | EPOLLRDHUP.rawValue) }
  package static var hangup: Readiness { Readiness(bits: EPOLLHUP.rawValue) }
  package static var error: Readiness { Readiness(bits: EPOLLERR.rawValue) }
}

/// Receives the readiness of one descriptor, on its loop.
package protocol EventHandler: AnyObject {
  /// The descriptor became ready as `readiness` says (edge-triggered).
  func ready(_ readiness: Readiness)
  /// Bytes that were read by ``EventLoop/gather(_:from:_:)``; valid during the call.
  func arrived(_ bytes: UnsafeRawBufferPointer)
}

extension EventHandler {
  package func arrived(_ bytes: UnsafeRawBufferPointer) {}
}

/// Has work that waits for the end of the current wake-up: one gathered write instead of several.
package protocol TickHandler: AnyObject {
  /// All events of this wake-up were delivered.
  func endOfTick()
}

/// Names a registered descriptor: its slot, and the generation that makes events of a closed one stale.
package struct Registration: Sendable {
  let slot: UInt32
  let generation: UInt32
}

/// The reactor of one thread. Everything but ``mailbox`` is confined to the thread that calls ``run()``.
///
/// A wake-up goes: rest where ``wakeupInterval`` says so, wait, read the clock once, deliver readiness, deliver what was
/// read, fire timers, run the mailbox, then the end-of-tick queue.
package final class EventLoop {
  package let index: Int
  package let system: any SystemCalls
  /// Reaches this loop from other threads.
  package let mailbox: Mailbox
  /// Gives output buffers to connections that have something to say.
  package let buffers = BufferPool()
  /// Where sockets are read into; its bytes are valid until the next read on this loop.
  package let scratch: UnsafeMutableRawBufferPointer
  /// The monotonic clock as of this wake-up, in nanoseconds.
  package private(set) var now: Nanoseconds
  package var random: Xoshiro256

  private let epoll: Int32
  private var handlers: [(any EventHandler)?] = []
  private var generations: [UInt32] = []
  private var freeSlots: [UInt32] = []
  private let timers: TimerWheel
  private var tick: [any TickHandler] = []
  private var tickSpare: [any TickHandler] = []
  private let events: UnsafeMutablePointer<ReadyEvent>
  /// Descriptors that one wake-up serves: enough to share its cost, few enough that what they all have to say at its end
  /// takes little memory.
  private let eventLimit = 64
  private var stopping = false
  private var pacer: WakeupPacer
  private var batch: ReadBatch

  /// Creates the loop's epoll instance and eventfd.
  package init(index: Int, system: any SystemCalls = LiveSystemCalls(), seed: UInt64) throws(SystemError) {
    self.index = index
    self.system = system
    epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard epoll >= 0 else { throw SystemError("epoll_create1", csystem_errno()) }
    let signal = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard signal >= 0 else { throw SystemError("eventfd", csystem_errno()) }
    mailbox = Mailbox(descriptor: signal)
    now = system.monotonicNanoseconds()
    random = Xoshiro256(seed: seed)
    timers = TimerWheel(now: now)
    pacer = WakeupPacer(now: now)
    batch = ReadBatch(limit: eventLimit)
    events = .allocate(capacity: eventLimit)
    events.initialize(repeating: ReadyEvent(), count: eventLimit)
    scratch = .allocate(byteCount: 128 * 1024, alignment: 64)
    let added = system.epollAdd(epoll, signal, events: EPOLLIN.rawValue, data: Self.mailboxData)
    guard added == 0 else { throw SystemError("epoll_ctl", -added) }
  }

  deinit {
    events.deallocate()
    scratch.deallocate()
    system.close(epoll)
  }

  /// What a connection registers for, once.
  private static var connectionEvents: UInt32 {
    EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
  }

  /// epoll data of the mailbox's eventfd, which has no slot.
  private static let mailboxData = UInt64.max

  /// Registers `descriptor` once, edge-triggered, for input, output and the peer's shutdown.
  package func register(_ descriptor: Int32, _ handler: any EventHandler) throws(SystemError) -> Registration
  {
    try register(descriptor, handler, events: Self.connectionEvents)
  }

  /// Registers `descriptor` once, edge-triggered, for input alone: for descriptors that only say that there is news, as
  /// an eventfd or a ZeroMQ socket's, which are writable again with each read.
  package func registerInput(_ descriptor: Int32, _ handler: any EventHandler) throws(SystemError)
    -> Registration
  {
    try register(descriptor, handler, events: EPOLLIN.rawValue | EPOLLET.rawValue)
  }

  /// Registers a listening socket that other loops listen on too: level-triggered, and one loop wakes (EPOLLEXCLUSIVE).
  package func registerShared(_ descriptor: Int32, _ handler: any EventHandler) throws(SystemError)
    -> Registration
  {
    try register(descriptor, handler, events: EPOLLIN.rawValue | EPOLLEXCLUSIVE.rawValue)
  }

  private func register(
    _ descriptor: Int32, _ handler: any EventHandler, events: UInt32
  ) throws(SystemError) -> Registration {
    let slot: UInt32
    if let free = freeSlots.popLast() {
      slot = free
    } else {
      slot = UInt32(handlers.count)
      handlers.append(nil)
      generations.append(0)
    }
    let generation = generations[Int(slot)]
    let added = system.epollAdd(
      epoll, descriptor, events: events, data: UInt64(slot) | UInt64(generation) << 32)
    guard added == 0 else {
      freeSlots.append(slot)
      throw SystemError("epoll_ctl", -added)
    }
    handlers[Int(slot)] = handler
    return Registration(slot: slot, generation: generation)
  }

  /// Forgets a registration: events that still wait for it are ignored. The descriptor leaves epoll when it is closed;
  /// pass it as `descriptor` where it stays open.
  package func deregister(_ registration: Registration, stillOpen descriptor: Int32? = nil) {
    let slot = Int(registration.slot)
    guard generations[slot] == registration.generation, handlers[slot] != nil else { return }
    if let descriptor { system.epollRemove(epoll, descriptor) }
    handlers[slot] = nil
    // The mailbox owns the all-ones data, so a generation never becomes all ones.
    generations[slot] = (registration.generation &+ 1) & 0x7fff_ffff
    freeSlots.append(registration.slot)
  }

  /// Fires `timer` on its handler at `deadline` or up to a millisecond later. An armed timer is moved.
  package func arm(_ timer: Timer, at deadline: Nanoseconds, _ handler: any TimerHandler) {
    timers.arm(timer, at: deadline, handler)
  }

  /// Disarms `timer`; harmless when it is not armed.
  package func cancel(_ timer: Timer) { timers.cancel(timer) }

  /// Calls `item` once when all events of this wake-up were delivered.
  package func atEndOfTick(_ item: any TickHandler) { tick.append(item) }

  /// Least time from one wake-up to the next while this loop is busy, in nanoseconds; 0 (the default) wakes at once.
  package var wakeupInterval: Nanoseconds {
    get { pacer.interval }
    set { pacer.interval = newValue }
  }

  /// Streams whose tokens a rest gathers. Without any the loop never rests: a short request gains nothing by it.
  package var openStreams = 0

  /// Runs until ``stop()``, then closes.
  package func run() {
    while !stopping { turn() }
    close()
  }

  /// Lets go of every handler, timer and piece of mail, most of which hold this loop as it holds them. Whoever turns a
  /// loop by hand calls it at the end. Nothing is told to anybody; descriptors stay with their owners.
  package func close() {
    // The slots stay, so that a registration that outlives this is still known as one that has passed.
    for slot in handlers.indices { handlers[slot] = nil }
    timers.removeAll()
    tick = []
    tickSpare = []
    mailbox.close()
  }

  /// Ends ``run()`` after the current wake-up. From another thread: `mailbox.submit { $0.stop() }`.
  package func stop() { stopping = true }

  /// One wake-up; `patience` caps the wait in milliseconds (tests pass 0).
  package func turn(patience: Int32 = Int32.max) {
    if openStreams > 0, pacer.isDense, tick.isEmpty {
      let pause = pacer.pause(at: system.monotonicNanoseconds())
      if pause > 0 { system.sleep(pause) }
    }
    let timeout = tick.isEmpty ? min(waitMilliseconds(), patience) : 0
    let count = system.epollWait(
      epoll, events, Int32(eventLimit), timeout: timeout == Int32.max ? -1 : timeout)
    now = system.monotonicNanoseconds()
    pacer.woke(at: now, events: Int(count))
    var mailed = false
    for index in 0..<max(0, Int(count)) {
      let data = events[index].data
      if data == Self.mailboxData {
        mailed = true
        continue
      }
      handler(slot: UInt32(data & 0xffff_ffff), generation: UInt32(data >> 32))?
        .ready(Readiness(bits: events[index].events))
    }
    deliverBatch()
    timers.advance(to: now)
    if mailed { mailbox.drain(on: self) }
    flushTick()
  }

  private func handler(slot: UInt32, generation: UInt32) -> (any EventHandler)? {
    let slot = Int(slot)
    guard slot < handlers.count, generations[slot] == generation else { return nil }
    return handlers[slot]
  }

  /// Reads once from a registered descriptor, while readiness is delivered. Bytes go to the handler's `arrived` when
  /// all that is ready has been read, unless it deregisters before. Returns how many they are, 0 at the peer's end, or
  /// the negated errno; and whether they filled the room, so that more may wait.
  package func gather(
    _ registration: Registration, from descriptor: Int32, _ group: ReadGroup
  ) -> (count: Int, filledRoom: Bool) {
    if batch.isFull {
      deliverBatch()
      // What was delivered may have closed this descriptor, and its number may be another's by now.
      guard handler(slot: registration.slot, generation: registration.generation) != nil else {
        return (-Int(EAGAIN), false)
      }
    }
    let room = batch.room
    guard let memory = room.baseAddress else { return (0, false) }
    let count = system.receive(descriptor, memory, room.count)
    if count > 0 { batch.keep(count, for: registration, group) }
    return (count, count == room.count)
  }

  private func deliverBatch() {
    guard !batch.isEmpty else { return }
    deliverBatch(.replies)
    deliverBatch(.requests)
    batch.removeAll()
  }

  private func deliverBatch(_ group: ReadGroup) {
    for index in 0..<batch.count {
      let entry = batch.entry(index)
      guard entry.group == group else { continue }
      let registration = entry.registration
      handler(slot: registration.slot, generation: registration.generation)?.arrived(batch.bytes(entry))
    }
  }

  private func flushTick() {
    // What an item queues in turn (a finished response starts the next pipelined request) runs in the same wake-up,
    // a bounded number of times; the rest comes right after the next poll.
    var rounds = 0
    while !tick.isEmpty, rounds < 8 {
      swap(&tick, &tickSpare)
      for item in tickSpare { item.endOfTick() }
      tickSpare.removeAll(keepingCapacity: true)
      rounds += 1
    }
  }

  private func waitMilliseconds() -> Int32 {
    guard let next = timers.nextDeadline else { return Int32.max }
    let now = system.monotonicNanoseconds()
    if next <= now { return 0 }
    return Int32(clamping: (next - now + millisecond - 1) / millisecond)
  }
}

/// Carries a loop-confined value through other threads; only its loop may open it.
///
/// Unchecked because the compiler cannot see the confinement: ``open(on:)`` checks the loop instead.
package struct LoopBound<Value>: @unchecked Sendable {
  private let value: Value
  private let loop: ObjectIdentifier

  /// Wraps `value`, which belongs to `loop`.
  package init(_ value: Value, of loop: EventLoop) {
    self.value = value
    self.loop = ObjectIdentifier(loop)
  }

  /// The value, on the loop that it belongs to.
  package func open(on loop: EventLoop) -> Value {
    precondition(ObjectIdentifier(loop) == self.loop, "a loop-bound value is opened on its own loop")
    return value
  }
}
