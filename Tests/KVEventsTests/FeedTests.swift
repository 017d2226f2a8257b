// The feed's order through every mishap: gaps, restarts, replays in all forms, and bounds.

import Base
import Testing

@testable import KVEvents

/// What a feed did, in a line each.
private struct Bench {
  var feed: CacheFeed
  var now = CacheFeedTime(monotonic: 1000 * second, wallSeconds: 5000)
  var log: [String] = []

  init(rank: Int? = 0, canReplay: Bool = true, limits: CacheFeedLimits = CacheFeedLimits()) {
    feed = CacheFeed(rank: rank, canReplay: canReplay, limits: limits)
  }

  /// The engine's message `sequence`, which stores block `sequence` of engine life `life`.
  static func payload(_ sequence: UInt64, life: UInt64 = 1, rank: Value = 0) -> [UInt8] {
    Value.array([.integer(life * 1000 &+ sequence), [.stored([life * 1000 &+ sequence])], rank]).encoded
  }

  private static func number(_ sequence: UInt64) -> [UInt8] {
    withUnsafeBytes(of: sequence.bigEndian) { Array($0) }
  }

  /// Takes the lines that the actions since the last call make.
  mutating func take() -> [String] {
    defer { log = [] }
    return log
  }

  private static func line(_ action: CacheFeedAction) -> String {
    switch action {
    case .apply(let batch): "apply \(batch.hashes.map { "\($0)" }.joined(separator: " "))"
    case .forgetAll(let reason): "forget \(reason)"
    case .requestReplay(let sequence): "replay \(sequence)"
    }
  }

  mutating func live(_ sequences: UInt64..., life: UInt64 = 1) {
    for sequence in sequences { live(Self.number(sequence), Self.payload(sequence, life: life)) }
  }

  mutating func live(_ frame: [UInt8], _ payload: [UInt8]) {
    var lines: [String] = []
    frame.withUnsafeBytes { frame in
      payload.withUnsafeBytes { payload in
        feed.received(sequence: frame, payload: payload, now: now) { lines.append(Self.line($0)) }
      }
    }
    log += lines
  }

  mutating func reply(_ sequences: UInt64..., life: UInt64 = 1) {
    for sequence in sequences { reply([[], [], Self.number(sequence), Self.payload(sequence, life: life)]) }
  }

  mutating func endReplay() { reply([[], [], [UInt8](repeating: 0xff, count: 8), []]) }

  mutating func reply(_ frames: [[UInt8]]) {
    var message = ZeroMQMessage()
    for frame in frames { frame.withUnsafeBytes { message.append($0) } }
    var lines: [String] = []
    feed.receivedReply(message, now: now) { lines.append(Self.line($0)) }
    log += lines
  }

  mutating func wait(_ time: Nanoseconds) {
    now.monotonic += time
    var lines: [String] = []
    feed.timePassed(now: now) { lines.append(Self.line($0)) }
    log += lines
  }

  mutating func subscribed() {
    var lines: [String] = []
    feed.subscribed(now: now) { lines.append(Self.line($0)) }
    log += lines
  }

  mutating func engineRestarted() {
    var lines: [String] = []
    feed.engineRestarted { lines.append(Self.line($0)) }
    log += lines
  }
}

@Suite struct FeedTests {
  @Test func messagesInOrderAreApplied() {
    var bench = Bench()
    bench.live(0, 1, 2)
    #expect(bench.take() == ["apply 1000", "apply 1001", "apply 1002"])
    #expect(bench.feed.counters.batches == 3 && bench.feed.counters.events == 3)
    #expect(bench.feed.counters.lagSeconds == 5000 - 1002)
    #expect(bench.feed.deadline == nil)
  }

  @Test func aGapIsFilledByAReplayAndLiveMessagesComeBehindIt() {
    var bench = Bench()
    bench.live(0, 1, 5)
    #expect(bench.take() == ["apply 1000", "apply 1001", "replay 1"])
    bench.live(6)
    bench.reply(1, 2, 3, 4)
    bench.live(7)
    bench.reply(5, 6)
    #expect(bench.take() == ["apply 1002", "apply 1003", "apply 1004", "apply 1005", "apply 1006"])
    #expect(bench.feed.isReplaying)
    bench.endReplay()
    #expect(bench.take() == ["apply 1007"])
    #expect(!bench.feed.isReplaying && bench.feed.heldMessages == 0)
    bench.live(8)
    #expect(bench.take() == ["apply 1008"])
    let counters = bench.feed.counters
    #expect(counters.gaps == 1 && counters.replays == 1 && counters.replayedBatches == 5)
    #expect(counters.duplicates == 2 && counters.resets == 0 && counters.missedBatches == 0)
  }

  @Test func liveMessagesThatAReplayForestalledAreDropped() {
    var bench = Bench()
    bench.live(0, 2)
    bench.reply(0, 1, 2, 3, 4)
    bench.endReplay()
    _ = bench.take()
    bench.live(3, 4, 5)
    #expect(bench.take() == ["apply 1005"])
    #expect(bench.feed.counters.duplicates == 3 && bench.feed.counters.restarts == 0)
  }

  @Test func aLateSubscriberAsksForAllFromTheFirstMessage() {
    var bench = Bench()
    bench.live(3)
    #expect(bench.take() == ["replay 0"])
    bench.reply(0, 1, 2, 3)
    bench.endReplay()
    #expect(bench.take() == ["apply 1000", "apply 1001", "apply 1002", "apply 1003"])
  }

  @Test func anEngineThatIsSilentIsAskedAtTheStart() {
    var bench = Bench()
    bench.subscribed()
    bench.reply(0, 1)
    bench.endReplay()
    bench.live(2)
    #expect(bench.take() == ["replay 0", "apply 1000", "apply 1001", "apply 1002"])

    var idle = Bench()
    idle.subscribed()
    idle.endReplay()
    idle.live(0)
    #expect(idle.take() == ["replay 0", "apply 1000"])

    var without = Bench(canReplay: false)
    without.subscribed()
    without.live(4, 5)
    // Nothing was known yet, but what came before is missing all the same.
    #expect(without.take() == ["forget gap", "apply 1004", "apply 1005"])
    #expect(without.feed.counters.missedBatches == 4 && without.feed.counters.resets == 1)
  }

  @Test func sequencesThatNoEngineReachesAreCountedWithoutOverflow() {
    var bench = Bench(canReplay: false)
    bench.subscribed()
    bench.live(.max - 1, .max - 1, .max - 1)
    #expect(bench.feed.counters.missedBatches == .max)
    #expect(bench.feed.counters.restarts == 2)
    var replayed = Bench()
    replayed.subscribed()
    for _ in 0..<3 {
      replayed.reply(.max - 2)
      replayed.endReplay()
      replayed.live(3)
      replayed.endReplay()
    }
    #expect(replayed.feed.counters.missedBatches >= .max - 2)
  }

  /// Every form of vLLM and SGLang, and each without the delimiter.
  @Test(arguments: [
    ["", "seq", "payload"], ["seq", "payload"], ["", "topic", "seq", "payload"], ["topic", "seq", "payload"],
    ["", "", "seq", "payload"],
  ])
  func repliesAreReadInEveryForm(_ form: [String]) {
    func frames(_ sequence: UInt64, _ payload: [UInt8]) -> [[UInt8]] {
      form.map { name in
        switch name {
        case "seq": withUnsafeBytes(of: sequence.bigEndian) { Array($0) }
        case "payload": payload
        default: Array(name.utf8)
        }
      }
    }
    var bench = Bench()
    bench.live(2)
    for sequence in 0..<UInt64(3) { bench.reply(frames(sequence, Bench.payload(sequence))) }
    bench.reply(frames(.max, []))
    bench.live(3)
    #expect(bench.take() == ["replay 0", "apply 1000", "apply 1001", "apply 1002", "apply 1003"])
    #expect(!bench.feed.isReplaying)
  }

  @Test func capturedRepliesAreTaken() {
    var bench = Bench()
    bench.live(20)
    for frames in capturedReplies { bench.reply(frames) }
    // The capture begins at 12: the missing ones cannot be had, which is told once.
    #expect(bench.feed.counters.replayedBatches == 4 && bench.feed.counters.missedBatches == 12 + 4)
    #expect(bench.take().count == 1 + 1 + 4 + 1)
    #expect(bench.feed.isReplaying)
  }

  @Test func aReplayThatLacksTheMissingOnesResets() {
    var bench = Bench()
    bench.live(0, 9)
    bench.reply(7, 8, 9)
    bench.endReplay()
    #expect(
      bench.take() == [
        "apply 1000", "replay 0", "forget replayIncomplete", "apply 1007", "apply 1008", "apply 1009",
      ])
    #expect(bench.feed.counters.missedBatches == 6 && bench.feed.counters.resets == 1)
  }

  @Test func anEmptyReplayResetsAndGoesOn() {
    var bench = Bench()
    bench.live(0, 9, 10)
    bench.endReplay()
    #expect(
      bench.take() == ["apply 1000", "replay 0", "forget replayIncomplete", "apply 1009", "apply 1010"])
    bench.live(11)
    #expect(bench.take() == ["apply 1011"])
  }

  @Test func aSecondGapDuringAReplayIsAskedForOnce() {
    var bench = Bench()
    bench.live(0, 2, 5)
    bench.reply(1, 2)
    bench.endReplay()
    #expect(bench.take() == ["apply 1000", "replay 0", "apply 1001", "apply 1002", "replay 2"])
    // Nothing new came: asking again would never end.
    bench.endReplay()
    #expect(bench.take() == ["forget replayIncomplete", "apply 1005"])
    #expect(bench.feed.counters.replays == 2)
  }

  @Test func aReplayThatDoesNotComeResetsAndGoesOn() {
    var bench = Bench()
    bench.live(0, 3)
    bench.wait(4 * second)
    bench.reply(1)
    bench.wait(4 * second)
    #expect(bench.take() == ["apply 1000", "replay 0", "apply 1001"])
    bench.live(4)
    #expect(bench.feed.deadline == bench.now.monotonic + second)
    bench.wait(second)
    #expect(bench.take() == ["forget replayTimedOut", "apply 1003", "apply 1004"])
    bench.reply(2)
    bench.live(5)
    #expect(bench.take() == ["apply 1005"])
    #expect(bench.feed.counters.replayTimeouts == 1 && bench.feed.deadline == nil)
  }

  @Test func aTimeoutWithNothingKnownForgetsNothing() {
    var bench = Bench()
    bench.subscribed()
    bench.wait(5 * second)
    bench.live(0)
    #expect(bench.take() == ["replay 0", "apply 1000"])
    #expect(bench.feed.counters.replayTimeouts == 1 && bench.feed.counters.resets == 0)
  }

  @Test func aRestartForgetsAndBeginsAnew() {
    var bench = Bench()
    bench.live(0, 1, 2)
    bench.live(0, 1, life: 2)
    #expect(bench.take().suffix(3) == ["forget restarted", "apply 2000", "apply 2001"])
    bench.live(1, life: 3)
    #expect(bench.take() == ["forget restarted", "replay 0"])
    bench.reply(0, 1, life: 3)
    bench.endReplay()
    #expect(bench.take() == ["apply 3000", "apply 3001"])
    #expect(bench.feed.counters.restarts == 2)
  }

  @Test func aRestartDuringAReplayDropsWhatWasHeld() {
    var bench = Bench()
    bench.live(0, 4, 5)
    bench.live(0, 1, life: 2)
    #expect(bench.take() == ["apply 1000", "replay 0", "forget restarted", "apply 2000", "apply 2001"])
    bench.reply(1)
    bench.endReplay()
    #expect(bench.take() == [])
    #expect(bench.feed.counters.dropped == 2)
  }

  /// The new engine has said more than the old one when it is first heard.
  @Test func anUnheardRestartShowsInTheReplay() {
    var bench = Bench()
    bench.live(0, 1)
    bench.live(3, life: 2)
    #expect(bench.take() == ["apply 1000", "apply 1001", "replay 1"])
    bench.reply(1, life: 2)
    #expect(bench.take() == ["forget restarted", "replay 0"])
    bench.reply(0, 1, 2, 3, life: 2)
    bench.endReplay()
    #expect(bench.take() == ["apply 2000", "apply 2001", "apply 2002", "apply 2003"])
    #expect(bench.feed.counters.restarts == 1)
  }

  /// A replay put us ahead of what was heard live; a new engine then speaks under numbers in between.
  @Test func aRestartAmongForestalledNumbersIsSeenByItsTime() {
    var bench = Bench()
    bench.live(0, 2)
    bench.reply(0, 1, 2, 3, 4, 5)
    bench.endReplay()
    _ = bench.take()
    bench.live(4, life: 2)
    #expect(bench.take() == ["forget restarted", "replay 0"])
    bench.reply(0, 1, 2, 3, 4, life: 2)
    bench.endReplay()
    #expect(bench.take().last == "apply 2004")
  }

  @Test func theOwnerMayKnowOfARestart() {
    var bench = Bench()
    bench.live(0, 1)
    bench.engineRestarted()
    bench.live(2, life: 2)
    #expect(bench.take() == ["apply 1000", "apply 1001", "forget restarted", "replay 0"])
  }

  @Test func withoutReplayAGapResets() {
    var bench = Bench(canReplay: false)
    bench.live(0, 3, 4)
    #expect(bench.take() == ["apply 1000", "forget gap", "apply 1003", "apply 1004"])
    #expect(bench.feed.counters.gaps == 1 && bench.feed.counters.missedBatches == 2)
    bench.reply(1)
    #expect(bench.take() == [])
  }

  @Test func whatIsHeldIsBoundedInMessages() {
    var limits = CacheFeedLimits()
    limits.heldMessagesMax = 2
    var bench = Bench(limits: limits)
    bench.live(0, 2, 3, 4, 5)
    #expect(bench.take() == ["apply 1000", "replay 0", "forget overflow", "apply 1004", "apply 1005"])
    #expect(bench.feed.counters.overflows == 1 && bench.feed.counters.dropped == 2)
    #expect(bench.feed.heldMessages == 0 && !bench.feed.isReplaying)
    bench.reply(1)
    bench.endReplay()
    #expect(bench.take() == [])
  }

  @Test func whatIsHeldIsBoundedInBytes() {
    var limits = CacheFeedLimits()
    limits.heldBytesMax = Bench.payload(2).count * 2
    var bench = Bench(limits: limits)
    bench.live(0, 2, 3)
    #expect(bench.feed.heldMessages == 2)
    bench.live(4)
    #expect(bench.take() == ["apply 1000", "replay 0", "forget overflow", "apply 1004"])
    // Room is given back: the next gap is held again.
    bench.live(6, 7)
    #expect(bench.feed.heldMessages == 2)
  }

  @Test func anUndecodableMessageMakesTheMirrorUnknown() {
    var bench = Bench()
    bench.live(0)
    bench.live([0, 0, 0, 0, 0, 0, 0, 1], [0xc1])
    bench.live(2)
    #expect(bench.take() == ["apply 1000", "forget undecodable", "apply 1002"])
    #expect(bench.feed.counters.malformedBatches == 1)
  }

  @Test func unknownContentIsNewsOnceAndSoIsItsEnd() {
    var bench = Bench()
    for sequence in 0..<3 as Range<UInt8> { bench.live([0, 0, 0, 0, 0, 0, 0, sequence], [0xc1]) }
    #expect(bench.take() == ["forget undecodable"])
    #expect(bench.feed.counters.malformedBatches == 3 && bench.feed.counters.resets == 1)
    // Another engine's cache is empty, and that is known.
    bench.live(0)
    #expect(bench.take() == ["forget restarted", "apply 1000"])
  }

  @Test(
    arguments: [
      (["BlockRemoved", 7], true), (["BlockRemoved"], true), (.map([("block_hashes", [7])]), true),
      (["BlockStored", [7], nil, [1, 2], 0, nil], false), (["BlockMigrated", 7], false),
    ] as [(Value, Bool)])
  func aRemovalThatCannotBeReadMakesTheMirrorUnknown(_ event: Value, _ hides: Bool) {
    var bench = Bench()
    bench.live(0)
    bench.live(
      [0, 0, 0, 0, 0, 0, 0, 1], Value.array([.integer(1001), [.stored([1001]), event], 0]).encoded)
    bench.live(2)
    #expect(bench.take() == ["apply 1000", hides ? "forget undecodable" : "apply 1001", "apply 1002"])
    #expect(bench.feed.counters.resets == (hides ? 1 : 0))
  }

  @Test func strangeFramesAreCountedAndChangeNothing() {
    var bench = Bench()
    bench.live(0)
    bench.live([], Bench.payload(1))
    bench.live([1, 2, 3], Bench.payload(1))
    bench.live([UInt8](repeating: 0xff, count: 8), [])
    bench.feed.receivedMalformed()
    bench.live(1, 3)
    for count in [0, 1, 5, 9] { bench.reply([[UInt8]](repeating: [0, 0, 0, 0, 0, 0, 0, 2], count: count)) }
    bench.reply([[], [1], []])
    #expect(bench.take() == ["apply 1000", "apply 1001", "replay 1"])
    #expect(bench.feed.counters.malformedMessages == 4 + 5)
    bench.reply(2)
    bench.endReplay()
    #expect(bench.take() == ["apply 1002", "apply 1003"])
  }

  @Test func batchesOfAnotherRankAreDropped() {
    var bench = Bench(rank: 1)
    bench.live([0, 0, 0, 0, 0, 0, 0, 0], Bench.payload(0, rank: 1))
    bench.live([0, 0, 0, 0, 0, 0, 0, 1], Bench.payload(1, rank: 0))
    bench.live([0, 0, 0, 0, 0, 0, 0, 2], Bench.payload(2, rank: nil))
    #expect(bench.take() == ["apply 1000", "apply 1002"])
    #expect(bench.feed.counters.dropped == 1)
  }

  /// Any order of any messages: what is applied rises between two resets, and nothing is held without a replay.
  @Test func anyOrderKeepsTheOrder() {
    var random = SeededGenerator(seed: 7)
    for _ in 0..<100 {
      var limits = CacheFeedLimits()
      limits.heldMessagesMax = 5
      var bench = Bench(limits: limits)
      var last: UInt64?
      for _ in 0..<60 {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: bench.endReplay()
        case 1: bench.wait(3 * second)
        case 2: bench.engineRestarted()
        case 3...5: bench.reply(UInt64.random(in: 0..<12, using: &random))
        default: bench.live(UInt64.random(in: 0..<12, using: &random))
        }
        for line in bench.take() {
          if line.hasPrefix("forget") { last = nil }
          guard line.hasPrefix("apply"), let number = UInt64(line.dropFirst(6)) else { continue }
          if let last, number <= last { Issue.record("\(number) was applied behind \(last)") }
          last = number
        }
        if bench.feed.heldMessages > (bench.feed.isReplaying ? 5 : 0) {
          Issue.record("\(bench.feed.heldMessages) messages are held")
        }
      }
    }
  }
}
