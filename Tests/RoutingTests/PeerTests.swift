// Load that several frontends share: what is told, what is heard, and what becomes of those that go silent.

import Base
import Testing

@testable import Routing

@Suite struct PeerLoadTests {
  private func full(_ bench: Bench) -> PeerShare { bench.router.takeShare(isFull: true) }
  private func delta(_ bench: Bench) -> PeerShare { bench.router.takeShare(isFull: false) }

  private func decide(_ bench: Bench) -> UInt64 {
    #expect(bench.select([9], tokens: 16) == .chosen)
    let worker = bench.decision.worker
    bench.router.free(bench.decision.booking, served: false, now: bench.now)
    return worker
  }

  @Test func nothingIsGatheredUnlessAskedFor() {
    let bench = Bench(workers: 1)
    bench.select([1, 2, 3])
    #expect(bench.router.outbox.slots.isEmpty && bench.router.outbox.prompts.prompts.isEmpty)
  }

  @Test func everyChangeIsToldOnceAsWhatIsBookedNow() {
    let bench = Bench(workers: 2) { $0.sharesLoad = true }
    bench.select([1, 2, 3], tokens: 50, named: 1)
    let booking = bench.decision.booking
    bench.select([1, 2], tokens: 40, named: 1)
    let told = delta(bench)
    #expect(told.rows == [.init(worker: 1, load: PeerLoad(requests: 2, blocks: 3, prefillTokens: 58))])
    #expect(told.prompts.hashes == chain([1, 2, 3]) + chain([1, 2]))
    #expect(told.prompts.prompts.map(\.blocks) == [0..<3, 3..<5])
    #expect(delta(bench) == PeerShare())
    bench.router.firstToken(booking)
    #expect(delta(bench).rows.map(\.load.prefillTokens) == [8])
    bench.router.free(booking, served: true, now: bench.now)
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
    #expect(delta(bench).rows == [.init(worker: 1, load: PeerLoad())])
    #expect(full(bench).rows.isEmpty)
  }

  @Test func whatOthersBookedIsWeighedAndNotToldOn() {
    let bench = Bench(workers: 2) { $0.sharesLoad = true }
    bench.router.setPeers(worker: 1, PeerLoad(requests: 3, blocks: 40, prefillTokens: 500))
    for _ in 0..<8 { #expect(decide(bench) == 2) }
    #expect(full(bench).rows.isEmpty)
    #expect(bench.load(of: 1)?.activeRequests == 0 && bench.load(of: 1)?.activeBlocks == 0)
    #expect(bench.load(of: 1)?.peers == PeerLoad(requests: 3, blocks: 40, prefillTokens: 500))
    bench.select([1], tokens: 16, named: 1)
    #expect(full(bench).rows == [.init(worker: 1, load: PeerLoad(requests: 1, blocks: 1, prefillTokens: 16))])
    bench.router.free(bench.decision.booking, served: false, now: bench.now)
    bench.router.setPeers(worker: 1, PeerLoad())
    bench.router.setPeers(worker: 2, PeerLoad(requests: 1, blocks: 9, prefillTokens: 0))
    for _ in 0..<8 { #expect(decide(bench) == 1) }
    bench.router.index.checkInvariants()
  }

  @Test func whatIsNotCountedHereIsNotCountedOfOthers() {
    let bench = Bench(workers: 1) {
      $0.tracksActiveBlocks = false
      $0.tracksPrefillTokens = false
    }
    bench.router.setPeers(worker: 1, PeerLoad(requests: 3, blocks: 40, prefillTokens: 500))
    #expect(bench.load(of: 1)?.peers == PeerLoad(requests: 3))
  }

  @Test func aWorkerThatLeavesTakesTheLoadOfOthersAlong() {
    let bench = Bench(workers: 1) { $0.sharesLoad = true }
    bench.select([1, 2], named: 1)
    let booking = bench.decision.booking
    bench.router.setPeers(worker: 1, PeerLoad(requests: 3, blocks: 40, prefillTokens: 500))
    bench.router.remove(worker: 1)
    bench.router.setPeers(worker: 1, PeerLoad(requests: 3, blocks: 40, prefillTokens: 500))
    #expect(full(bench).rows.isEmpty)
    bench.router.free(booking, served: true, now: bench.now)
    _ = bench.maintain()
    #expect(bench.router.slotCount == 0)
    // Its slot was noted: nothing is told of a place without a worker.
    bench.router.add(worker: 7)
    #expect(delta(bench).rows.isEmpty)
  }

  @Test func promptsOfOthersArePredictedWhereNoEventsTell() {
    let bench = Bench(workers: 2) { $0.sharesLoad = true }
    let blocks: [UInt64] = [1, 2, 3, 4]
    chain(blocks).withUnsafeBufferPointer {
      bench.router.predict($0, blockSize: 16, worker: 2, now: bench.now)
      bench.router.predict($0, blockSize: 32, worker: 1, now: bench.now)
      bench.router.predict($0, blockSize: 16, worker: 99, now: bench.now)
    }
    #expect(bench.overlaps(blocks) == [1: 0, 2: 4])
    // It was told of by another: it is not told on.
    #expect(delta(bench) == PeerShare())
    bench.router.index.checkInvariants()
  }

  @Test func promptsWithoutRoomAreDroppedAndCounted() {
    let bench = Bench(workers: 1) { $0.sharesLoad = true }
    let long = (0..<UInt64(PeerOutbox.hashesMax / 2 + 1)).map { $0 }
    for _ in 0..<3 { bench.selectChain(long) }
    let told = delta(bench)
    #expect(told.prompts.prompts.count == 1 && told.droppedPrompts == 2)
    bench.selectChain(long)
    #expect(delta(bench).prompts.prompts.count == 1)
  }
}

@Suite struct PeerMessageTests {
  private static let load = PeerMessage(
    incarnation: 1 << 60, sequence: 7,
    body: .load(
      isFull: true,
      [
        .init(
          model: "m",
          rows: [
            .init(worker: 5, load: PeerLoad(requests: 1, blocks: 2, prefillTokens: 3)),
            .init(worker: .max, load: PeerLoad()),
          ]),
        .init(model: "größer", rows: []),
      ]))

  private static var prompts: PeerMessage {
    var prompts = PeerShare.Prompts()
    prompts.hashes = [1, .max, 3]
    prompts.prompts = [
      .init(worker: 5, blockSize: 16, blocks: 0..<2), .init(worker: 6, blockSize: 32, blocks: 2..<3),
    ]
    return PeerMessage(incarnation: 2, sequence: 9, body: .prompts(model: "m", ofTokens: true, prompts))
  }

  private func read(_ bytes: [UInt8]) -> PeerMessage? { bytes.withUnsafeBytes { PeerMessage($0) } }

  @Test(arguments: [load, prompts])
  func whatIsWrittenIsRead(_ message: PeerMessage) {
    #expect(read(message.encoded()) == message)
  }

  @Test(arguments: [load, prompts])
  func nothingIsReadOfAPartOrOfMore(_ message: PeerMessage) {
    let bytes = message.encoded()
    for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == nil) }
    #expect(read(bytes + [0]) == nil)
  }

  @Test(arguments: [load, prompts])
  func anyChangedByteIsReadWholeOrNotAtAll(_ message: PeerMessage) {
    let bytes = message.encoded()
    for index in bytes.indices {
      for value in [0, 1, 0x7f, 0xff] as [UInt8] {
        var other = bytes
        other[index] = value
        if let message = read(other) { #expect(message.encoded().count <= PeerMessage.bytesMax) }
      }
    }
  }

  @Test func countsThatCannotBeAreRefusedBeforeMemoryIsTaken() {
    var bytes = Self.prompts.encoded()
    // The blocks of the first prompt: behind the head (22), the flag, the name (3), the count, the worker and the size.
    let place = 4 + 2 + 16 + 1 + 3 + 4 + 8 + 4
    #expect(bytes[place] == 2)
    bytes.replaceSubrange(place..<place + 4, with: [0xff, 0xff, 0xff, 0xff])
    #expect(read(bytes) == nil)
  }

  @Test func rowsBeyondTheBoundAreLeftOutAndCounted() {
    let rows = (0..<PeerMessage.rowsMax + 3).map {
      PeerShare.Row(worker: UInt64($0), load: PeerLoad(requests: 1))
    }
    let message = PeerMessage(
      incarnation: 1, sequence: 1,
      body: .load(isFull: true, [.init(model: "a", rows: rows), .init(model: "b", rows: rows)]))
    #expect(message.omittedRows == PeerMessage.rowsMax + 6)
    guard case .load(_, let models) = read(message.encoded())?.body else {
      Issue.record("a bounded message is read")
      return
    }
    #expect(models.map(\.rows.count) == [PeerMessage.rowsMax, 0])
  }
}

@Suite struct PeerFrontendsTests {
  private final class Rig {
    var frontends = PeerFrontends(own: 1, lease: 5 * second)
    var now: Nanoseconds = 100 * second

    init() {
      frontends.add("a")
      frontends.add("b")
    }

    /// Rows are worker and requests of model `m`.
    @discardableResult
    func send(
      _ address: String, incarnation: UInt64 = 10, _ sequence: UInt64, full: Bool = false,
      _ rows: [(UInt64, Int)]
    ) -> PeerMessage? {
      let rows = rows.map { PeerShare.Row(worker: $0.0, load: PeerLoad(requests: $0.1)) }
      return send(
        address,
        PeerMessage(
          incarnation: incarnation, sequence: sequence,
          body: .load(isFull: full, [.init(model: "m", rows: rows)])
        ).encoded())
    }

    @discardableResult
    func send(_ address: String, _ bytes: [UInt8]) -> PeerMessage? {
      bytes.withUnsafeBytes { frontends.received($0, from: address, now: now) }
    }

    func requests(_ worker: UInt64) -> Int {
      frontends.total(PeerKey(model: "m", worker: worker)).requests
    }

    func changed() -> [UInt64] { frontends.takeChanged().map(\.worker).sorted() }
    var counters: PeerCounters { frontends.counters }
    var presence: [Bool] { frontends.presence.map(\.isHeard) }
    func pass(_ time: Nanoseconds) {
      now += time
      frontends.timePassed(now: now)
    }
  }

  @Test func loadsOfAllPeersAddUp() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2), (6, 1)])
    rig.send("b", incarnation: 11, 1, [(5, 3)])
    #expect(rig.requests(5) == 5 && rig.requests(6) == 1 && rig.requests(7) == 0)
    #expect(rig.changed() == [5, 6])
    #expect(rig.changed().isEmpty)
    // The same again is no change.
    rig.send("a", 2, [(5, 2)])
    #expect(rig.changed().isEmpty)
    rig.send("a", 3, [(5, 0)])
    #expect(rig.requests(5) == 3 && rig.changed() == [5])
    #expect(rig.presence == [true, true])
  }

  @Test func aFullMessageLacksWhatHasEnded() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2), (6, 1)])
    _ = rig.changed()
    rig.send("a", 2, full: true, [(6, 4)])
    #expect(rig.requests(5) == 0 && rig.requests(6) == 4)
    #expect(rig.changed() == [5, 6])
  }

  @Test func lostMessagesAreCountedAndMendedByTheNextFullOne() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2)])
    // Messages 2 to 4, in which the requests ended, never came.
    rig.send("a", 5, [(6, 1)])
    #expect(rig.counters.missed == 3 && rig.requests(5) == 2)
    rig.send("a", 6, full: true, [(6, 1)])
    #expect(rig.requests(5) == 0 && rig.counters.missed == 3)
  }

  @Test func whatComesTwiceOrLateIsPassedOver() {
    let rig = Rig()
    rig.send("a", 5, [(5, 2)])
    rig.send("a", 5, [(5, 9)])
    rig.send("a", 4, [(5, 9)])
    #expect(rig.requests(5) == 2 && rig.counters.repeated == 2 && rig.counters.messages == 1)
  }

  @Test func anotherProcessAtTheAddressBeginsWithNothing() {
    let rig = Rig()
    rig.send("a", 900, [(5, 2), (6, 2)])
    _ = rig.changed()
    rig.send("a", incarnation: 12, 1, [(6, 1)])
    #expect(rig.requests(5) == 0 && rig.requests(6) == 1)
    #expect(rig.counters.restarts == 1 && rig.changed() == [5, 6])
  }

  @Test func aSilentPeersLoadIsDroppedAfterItsLease() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2)])
    rig.pass(5 * second - 1)
    #expect(rig.requests(5) == 2)
    _ = rig.changed()
    rig.pass(1)
    #expect(rig.requests(5) == 0 && rig.changed() == [5])
    #expect(rig.counters.expired == 1 && rig.presence == [false, false])
    rig.pass(100 * second)
    #expect(rig.counters.expired == 1)
    // It was only silent: what it says next counts, however it is numbered.
    rig.send("a", 2, [(5, 1)])
    #expect(rig.requests(5) == 1 && rig.counters.restarts == 0)
  }

  @Test func anyMessageKeepsTheLease() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2)])
    for sequence in 2...9 {
      rig.pass(4 * second)
      rig.send("a", UInt64(sequence), [])
    }
    #expect(rig.requests(5) == 2 && rig.counters.expired == 0)
  }

  @Test func ownMessagesAndASecondWayToAPeerAreNoPeers() {
    let rig = Rig()
    rig.send("a", incarnation: 1, 1, [(5, 2)])
    #expect(rig.requests(5) == 0 && rig.presence == [false] && rig.counters == PeerCounters())
    rig.send("a", 1, [(5, 2)])
    #expect(rig.presence == [true, false])
    rig.send("b", 1, [(5, 2)])
    #expect(rig.requests(5) == 2 && rig.counters.repeated == 1)
  }

  @Test func hostileBytesAreCountedAndChangeNothing() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2)])
    var random = Xoshiro256(seed: 3)
    for _ in 0..<2_000 {
      let count = Int(random.next() % 64)
      var bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      if count > 4, random.next() % 2 == 0 { bytes.replaceSubrange(0..<4, with: Array("DYNR".utf8)) }
      rig.send("a", bytes)
    }
    #expect(rig.counters.malformed == 2_000 && rig.requests(5) == 2)
    rig.send("nobody", 1, [(5, 2)])
    #expect(rig.requests(5) == 2)
  }

  @Test func aPeerHasLoadOnABoundedNumberOfWorkers() {
    let rig = Rig()
    let most = UInt64(PeerFrontends.rowsMax)
    rig.send("a", 1, (0..<most).map { ($0, 1) })
    rig.send("a", 2, [(most, 1), (0, 7)])
    #expect(rig.counters.refusedRows == 1 && rig.requests(most) == 0 && rig.requests(0) == 7)
    rig.send("a", 3, [(0, 0), (most, 1)])
    #expect(rig.requests(most) == 1)
  }

  @Test func anAddressThatIsNoLongerKnownLeavesNothing() {
    let rig = Rig()
    rig.send("a", 1, [(5, 2)])
    _ = rig.changed()
    rig.frontends.remove("a")
    #expect(rig.requests(5) == 0 && rig.changed() == [5] && rig.presence == [false])
  }

  @Test func promptsAreHandedOn() {
    let rig = Rig()
    var prompts = PeerShare.Prompts()
    prompts.hashes = [1, 2]
    prompts.prompts = [.init(worker: 5, blockSize: 16, blocks: 0..<2)]
    let message = PeerMessage(
      incarnation: 10, sequence: 1, body: .prompts(model: "m", ofTokens: false, prompts))
    #expect(rig.send("a", message.encoded()) == message)
    #expect(rig.send("a", message.encoded()) == nil)
  }
}
