// Publisher and subscriber over real sockets of libzmq.

import Base
import Glibc
import Testing

@testable import KVEvents

private let isInstalled = ZeroMQContext.unavailableReason == nil

/// A publisher and a subscriber, turned by hand until something is so.
private final class Pair {
  let publisher: CacheEventPublisher
  let subscriber: CacheEventSubscriber
  var encoder = CacheEventEncoder()
  var log: [String] = []
  var published: UInt64 = 0

  init(publisher: CacheEventPublisher, subscriber: CacheEventSubscriber) {
    self.publisher = publisher
    self.subscriber = subscriber
  }

  static var now: CacheFeedTime {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return CacheFeedTime(
      monotonic: UInt64(time.tv_sec) * second + UInt64(time.tv_nsec), wallSeconds: 1_800_000_000)
  }

  /// Publishes a store of one block, named by its sequence.
  func publish() {
    let sequence = publisher.sequence
    encoder.stored(hashes: [sequence], parent: nil, tokens: [1, 2], blockSize: 2)
    publisher.publish(&encoder, timestamp: 1_800_000_000)
  }

  /// Takes what has come, then waits for the descriptors unless more is known to wait.
  func turnOnce(milliseconds: Int32) {
    while publisher.readable() {}
    subscriber.readable(now: Self.now) { action in
      switch action {
      case .apply(let batch): log.append("apply \(batch.hashes.map { "\($0)" }.joined(separator: " "))")
      case .forgetAll(let reason): log.append("forget \(reason)")
      case .requestReplay(let sequence): log.append("replay \(sequence)")
      }
    }
    if subscriber.deadline == 0 { return }
    var waits = (publisher.descriptors + subscriber.descriptors).map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    _ = poll(&waits, nfds_t(waits.count), milliseconds)
  }

  /// Waits on the descriptors and nothing else until `isDone`, as an owner's loop would; false after 20 s.
  func turn(until isDone: () -> Bool) -> Bool {
    let end = Self.now.monotonic + 20 * second
    while !isDone() {
      guard Self.now.monotonic < end else { return false }
      turnOnce(milliseconds: isDone() ? 0 : 1000)
    }
    return true
  }

  /// Publishes until the subscriber hears it live: a subscription takes its time to arrive.
  func meet() -> Bool {
    let end = Self.now.monotonic + 20 * second
    while subscriber.counters.messages == 0 {
      guard Self.now.monotonic < end else { return false }
      publish()
      turnOnce(milliseconds: 20)
    }
    return true
  }
}

extension Array where Element == String {
  /// The longest end of the list whose elements all pass.
  fileprivate func suffix(while passes: (String) -> Bool) -> [String] {
    Array(suffix(reversed().prefix { passes($0) }.count))
  }
}

@Suite(.enabled(if: isInstalled, "libzmq.so.5 is not installed"))
struct SocketTests {
  private func publication(
    replays: Bool = true, at endpoint: String = "tcp://127.0.0.1:*"
  ) -> CacheEventPublication {
    var publication = CacheEventPublication(endpoint: endpoint)
    if replays { publication.replayEndpoint = endpoint }
    publication.topic = "kv-events"
    return publication
  }

  private func pair(_ publication: CacheEventPublication, topic: String = "") throws -> Pair {
    let context = try ZeroMQContext()
    let publisher = try CacheEventPublisher(publication, context: context)
    var subscription = CacheEventSubscription(
      events: CacheEventEndpoint(address: publisher.boundAddress, isBound: false),
      replay: publisher.boundReplayAddress.map { CacheEventEndpoint(address: $0, isBound: false) })
    subscription.topic = topic
    return Pair(publisher: publisher, subscriber: try CacheEventSubscriber(subscription, context: context))
  }

  @Test(arguments: ["tcp://127.0.0.1:*", "ipc://*"])
  func whatWasPublishedBeforeComesByReplayAndTheRestLive(_ endpoint: String) throws {
    let pair = try pair(publication(at: endpoint), topic: "kv-")
    for _ in 0..<500 { pair.publish() }
    #expect(pair.turn { pair.subscriber.counters.replayedBatches >= 500 && !pair.subscriber.isReplaying })
    #expect(pair.log == ["replay 0"] + (0..<500).map { "apply \($0)" })
    #expect(pair.meet())
    for _ in 0..<200 { pair.publish() }
    let last = pair.publisher.sequence - 1
    #expect(pair.turn { pair.log.last == "apply \(last)" })
    #expect(pair.log.filter { $0.hasPrefix("apply") } == (0...last).map { "apply \($0)" })
    #expect(pair.publisher.counters.batches == last + 1 && pair.publisher.counters.malformedRequests == 0)
    #expect(pair.subscriber.lastError == nil && pair.publisher.lastError == nil)
  }

  @Test func anOwnerWhoKnowsOfARestartHasAllAskedForAgain() throws {
    let pair = try pair(publication())
    for _ in 0..<3 { pair.publish() }
    #expect(pair.turn { pair.subscriber.counters.batches == 3 && !pair.subscriber.isReplaying })
    pair.subscriber.engineRestarted { action in pair.log.append("\(action)") }
    #expect(pair.subscriber.deadline == 0)
    #expect(pair.turn { pair.subscriber.counters.batches == 6 && !pair.subscriber.isReplaying })
    #expect(pair.log.filter { $0.hasPrefix("replay") } == ["replay 0", "replay 0"])
    #expect(pair.subscriber.counters.resets == 1)
  }

  @Test func anEngineThatIsStartedAnewIsFollowedAgain() throws {
    let context = try ZeroMQContext()
    let options = publication()
    var publisher: CacheEventPublisher? = try CacheEventPublisher(options, context: context)
    let address = try #require(publisher?.boundAddress)
    let replay = try #require(publisher?.boundReplayAddress)
    let subscriber = try CacheEventSubscriber(
      CacheEventSubscription(
        events: CacheEventEndpoint(address: address, isBound: false),
        replay: CacheEventEndpoint(address: replay, isBound: false)), context: context)
    var pair: Pair? = Pair(publisher: try #require(publisher), subscriber: subscriber)
    #expect(pair?.meet() == true)
    // More than the second engine will say unheard, so that its sequence goes back.
    for _ in 0..<2000 { pair?.publish() }
    #expect(pair?.turn { subscriber.counters.batches == pair?.publisher.sequence } == true)

    // The sockets are closed before others take their ports.
    pair = nil
    publisher = nil
    var second: CacheEventPublisher?
    let end = Pair.now.monotonic + 20 * Base.second
    while second == nil, Pair.now.monotonic < end {
      do throws(ZeroMQError) {
        let live = try ZeroMQSocket(.publish, context: context)
        try live.bind(address)
        let router = try ZeroMQSocket(.router, context: context)
        try router.bind(replay)
        second = CacheEventPublisher(options, live: live, replay: router, context: context)
      } catch {
        // libzmq's own thread lets the port go when it gets to it.
        var nobody = pollfd(fd: -1, events: 0, revents: 0)
        _ = poll(&nobody, 1, 10)
      }
    }
    let again = Pair(publisher: try #require(second), subscriber: subscriber)
    let before = subscriber.counters.messages
    while subscriber.counters.messages == before, Pair.now.monotonic < end {
      again.publish()
      again.turnOnce(milliseconds: 20)
    }
    #expect(again.turn { again.log.last == "apply \(again.publisher.sequence - 1)" })
    #expect(again.log.contains("forget restarted"))
    let applied = again.log.suffix(while: { $0.hasPrefix("apply") })
    #expect(applied == (0..<again.publisher.sequence).map { "apply \($0)" })
    #expect(subscriber.counters.restarts == 1)
  }

  @Test func aReplayBufferThatForgotLeavesAGapThatIsTold() throws {
    var publication = publication()
    publication.replayBatchesMax = 10
    let pair = try pair(publication)
    for _ in 0..<25 { pair.publish() }
    #expect(pair.turn { pair.subscriber.counters.replayedBatches == 10 && !pair.subscriber.isReplaying })
    #expect(pair.log == ["replay 0", "forget replayIncomplete"] + (15..<25).map { "apply \($0)" })
    #expect(pair.subscriber.counters.missedBatches == 15)
  }

  @Test func aSubscriberMayListenForAnEngineThatConnects() throws {
    let context = try ZeroMQContext()
    let subscription = CacheEventSubscription(
      events: CacheEventEndpoint(address: "tcp://127.0.0.1:*", isBound: true))
    let subscriber = try CacheEventSubscriber(subscription, context: context)
    // No wildcard: the publisher connects, as vLLM does.
    let publisher = try CacheEventPublisher(
      CacheEventPublication(endpoint: subscriber.boundAddress), context: context)
    let pair = Pair(publisher: publisher, subscriber: subscriber)
    #expect(pair.meet())
    pair.publish()
    let last = pair.publisher.sequence - 1
    #expect(pair.turn { pair.log.last == "apply \(last)" })
  }

  @Test func aFilterHidesOtherTopics() throws {
    let pair = try pair(publication(replays: false), topic: "kv-events")
    let context = try ZeroMQContext()
    var other = CacheEventSubscription(
      events: CacheEventEndpoint(address: pair.publisher.boundAddress, isBound: false))
    other.topic = "other"
    let deaf = try CacheEventSubscriber(other, context: context)
    #expect(pair.meet())
    deaf.readable(now: Pair.now) { _ in }
    #expect(deaf.counters.messages == 0)
  }

  @Test func requestsAreAnsweredAsVLLMAnswersThemAndOthersIgnored() throws {
    let context = try ZeroMQContext()
    let publisher = try CacheEventPublisher(publication(), context: context)
    var encoder = CacheEventEncoder()
    for _ in 0..<3 {
      encoder.cleared()
      publisher.publish(&encoder, timestamp: 1)
    }
    let dealer = try ZeroMQSocket(.dealer, context: context)
    try dealer.connect(try #require(publisher.boundReplayAddress))
    let one: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 1]
    for frames: [[UInt8]] in [[one], [[], [], one], [[], one + [0]], [[1], one], [[], one]] {
      #expect(try dealer.send(message: frames))
    }
    var replies: [[[UInt8]]] = []
    var message = ZeroMQMessage()
    let end = Pair.now.monotonic + 20 * second
    while replies.last?.last != [], Pair.now.monotonic < end {
      while publisher.readable() {}
      while try dealer.receive(into: &message) {
        replies.append((0..<message.count).map { Array(message[$0]) })
      }
      var waits = (publisher.descriptors + [dealer.descriptor]).map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      if replies.isEmpty { _ = poll(&waits, nfds_t(waits.count), 1000) }
    }
    let payload = Value.array([.raw(hex("cb3ff0000000000000")), [.map([("type", "AllBlocksCleared")])], 0])
      .encoded
    let topic = Array("kv-events".utf8)
    #expect(
      replies == [
        [[], topic, one, payload], [[], topic, [0, 0, 0, 0, 0, 0, 0, 2], payload],
        [[], [], [UInt8](repeating: 0xff, count: 8), []],
      ])
    #expect(publisher.counters.malformedRequests == 4 && publisher.counters.replays == 1)
  }

  @Test func replaysThatNobodyReadsAreBoundedInSum() throws {
    let context = try ZeroMQContext()
    var options = publication()
    options.unreadBytesMax = 26 << 20
    let publisher = try CacheEventPublisher(options, context: context)
    let address = try #require(publisher.boundReplayAddress)
    for _ in 0..<240 { publisher.publish(payload: [UInt8](repeating: 1, count: 100_000)) }

    /// A client that takes messages only when it is told to; the sockets between hold less than the rest.
    func client() throws -> ZeroMQSocket {
      var options = ZeroMQSocketOptions()
      options.receiveQueueMax = 1
      let dealer = try ZeroMQSocket(.dealer, context: context, options: options)
      try dealer.connect(address)
      return dealer
    }
    func ask(_ dealer: ZeroMQSocket) throws {
      #expect(try dealer.send(message: [[], [UInt8](repeating: 0, count: 8)]))
    }
    func turn(until isDone: () throws -> Bool) rethrows {
      let end = Pair.now.monotonic + 20 * second
      while try !isDone(), Pair.now.monotonic < end {
        while publisher.readable() {}
        var waits = publisher.descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        _ = poll(&waits, nfds_t(waits.count), 5)
      }
      #expect(try isDone())
    }
    /// Reads up to the end of a replay and returns how many batches came.
    func read(_ dealer: ZeroMQSocket) throws -> Int {
      var message = ZeroMQMessage()
      var count = 0
      var isOver = false
      try turn {
        while !isOver, try dealer.receive(into: &message) {
          if message[3].isEmpty { isOver = true } else { count += 1 }
        }
        return isOver
      }
      return count
    }

    let (idle, other) = (try client(), try client())
    try ask(idle)
    turn { publisher.counters.replays == 1 }
    try ask(other)
    #expect(try read(other) == 0)
    #expect(publisher.counters.refusedReplays == 1 && publisher.counters.replays == 1)
    #expect(context.unsent.count <= 26 << 20)
    // Once the first has read, there is room again.
    #expect(try read(idle) == 240)
    turn { context.unsent.count == 0 }
    try ask(other)
    #expect(try read(other) == 240)
    #expect(publisher.counters.refusedReplays == 1 && publisher.counters.abandonedReplays == 0)
    // One who leaves without reading holds nothing either.
    var leaver: ZeroMQSocket? = try client()
    if let leaver { try ask(leaver) }
    turn { publisher.counters.replays == 3 }
    leaver = nil
    turn { context.unsent.count == 0 }
  }

  @Test func messagesWithTooManyFramesAndTooLargeOnesDoNotGetThrough() throws {
    let context = try ZeroMQContext()
    let sender = try ZeroMQSocket(.dealer, context: context)
    var options = ZeroMQSocketOptions()
    options.frameBytesMax = 1000
    let receiver = try ZeroMQSocket(.dealer, context: context, options: options)
    try receiver.bind("tcp://127.0.0.1:*")
    try sender.connect(receiver.boundAddress)
    #expect(try sender.send(message: [[UInt8]](repeating: [1], count: 20)))
    #expect(try sender.send(message: [[UInt8](repeating: 2, count: 1001)]))
    #expect(try sender.send(message: [[3]]))
    var message = ZeroMQMessage()
    var seen: [String] = []
    let end = Pair.now.monotonic + 20 * second
    while seen.count < 1, Pair.now.monotonic < end {
      while try receiver.receive(into: &message) {
        seen.append("\(message.count) \(message.hasTooManyFrames) \(message.byteCount)")
      }
      var wait = pollfd(fd: receiver.descriptor, events: Int16(POLLIN), revents: 0)
      if seen.isEmpty { _ = poll(&wait, 1, 1000) }
    }
    #expect(seen.first == "8 true 8")
    #expect(!seen.contains("1 false 1001"))
  }

  @Test func failuresNameTheCall() throws {
    let context = try ZeroMQContext()
    let socket = try ZeroMQSocket(.subscribe, context: context)
    #expect(throws: ZeroMQError.self) { try socket.connect("nonsense") }
    do throws(ZeroMQError) {
      try socket.bind("tcp://256.0.0.1:1")
      Issue.record("bound to no address")
    } catch {
      #expect(error.description.hasPrefix("zmq_bind tcp://256.0.0.1:1: "))
    }
    let first = try ZeroMQSocket(.publish, context: context)
    try first.bind("tcp://127.0.0.1:*")
    #expect(throws: ZeroMQError.self) { try socket.bind(first.boundAddress) }
  }
}

@Suite struct LibraryTests {
  @Test func anAbsentLibrarySaysWhy() {
    guard case .failure(.notInstalled(let reason)) = ZeroMQLibrary.load("libzmq-of-nobody.so.5") else {
      Issue.record("loaded what does not exist")
      return
    }
    #expect(reason.contains("libzmq-of-nobody.so.5"))
    guard case .failure(.notInstalled(let other)) = ZeroMQLibrary.load("libc.so.6") else {
      Issue.record("took another library for libzmq")
      return
    }
    #expect(other == "libc.so.6 lacks a function")
  }
}

@Suite struct ReplayBufferTests {
  @Test func theOldestGoBeyondEitherBound() {
    var buffer = ReplayBuffer()
    for number in 0..<UInt8(200) { buffer.append([number, 0], batchesMax: 100, bytesMax: 1000) }
    #expect(buffer.count == 100 && buffer.byteCount == 200)
    #expect((0..<100).allSatisfy { buffer[$0] == [UInt8(100 + $0), 0] })
    buffer.append([UInt8](repeating: 1, count: 990), batchesMax: 100, bytesMax: 1000)
    #expect(buffer.count == 6 && buffer.byteCount == 1000)
    buffer.append([UInt8](repeating: 1, count: 1001), batchesMax: 100, bytesMax: 1000)
    #expect(buffer.count == 0 && buffer.byteCount == 0)
    buffer.append([1], batchesMax: 0, bytesMax: 1000)
    #expect(buffer.count == 0 && buffer.byteCount == 0)
  }
}
