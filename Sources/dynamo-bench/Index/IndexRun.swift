// What `dynamo-bench index` does: events through a mirror, operations into the router, look-ups out of it.

import Base
import EventLoop
import Routing

/// A model's workers with shared prompts to different depths, and the figures of their index.
struct IndexRun {
  let workers: Int
  /// Blocks that each worker holds.
  let blocks: Int
  /// Blocks of a prompt.
  let prompt: Int
  let seed: UInt64

  private static let blockSize = 16
  private static let promptCount = 64
  private static let lookUps = 20_000

  func run() {
    var random = Xoshiro256(seed: seed)
    mirror(&random)
    var options = RoutingOptions()
    options.indexBytesMax = 4 << 30
    var router = Router(options: options)
    for id in 1...UInt64(workers) {
      router.add(worker: id)
      router.setSource(worker: id, .events, reason: .configured)
    }
    let prompts = (0..<Self.promptCount).map { _ in (0..<prompt).map { _ in random.next() } }
    apply(prompts, &router, &random)
    report("look-up, each worker with its own depth", lookUp(&router) { prompts[$0 % prompts.count] })
    report("look-up of one prompt", lookUp(&router) { _ in prompts[0] })
    let fresh = (0..<256).map { _ in (0..<prompt).map { _ in random.next() } }
    report("look-up of what nobody holds", lookUp(&router) { fresh[$0 % fresh.count] })
    decide(prompts, &router, &random)
    let began = Machine.monotonicNanoseconds
    router.clearEvents(worker: 1)
    let cleared = Machine.monotonicNanoseconds
    _ = router.maintain(now: cleared)
    say(
      "clear of a worker: \(cleared - began) ns, sweep after it: \(Machine.monotonicNanoseconds - cleared) ns\n"
    )
  }

  /// Events of 32 blocks, 16 of them a prompt.
  private func mirror(_ random: inout Xoshiro256) {
    var mirror = CacheMirror(blockSize: Self.blockSize)
    let events = 10_000
    var spent: UInt64 = 0
    var parent: UInt64?
    for event in 0..<events {
      let hashes = (0..<32).map { _ in random.next() }
      let tokens = (0..<32 * Self.blockSize).map { _ in UInt32(truncatingIfNeeded: random.next()) }
      let began = Machine.monotonicNanoseconds
      hashes.withUnsafeBufferPointer { hashes in
        tokens.withUnsafeBufferPointer { tokens in
          mirror.stored(
            StoredBlocks(hashes: hashes, parent: parent, tokens: tokens, blockSize: Self.blockSize))
        }
      }
      spent += Machine.monotonicNanoseconds - began
      parent = event % 16 == 15 ? nil : hashes.last
      if event % 64 == 0 { _ = mirror.takeOperations() }
    }
    let perBlock = Double(mirror.bytes) / Double(max(1, mirror.count))
    say("mirror: \(rate(events * 32, spent)) blocks/s, \(fixed(perBlock, 1)) bytes a block\n")
  }

  private func apply(_ prompts: [[UInt64]], _ router: inout Router, _ random: inout Xoshiro256) {
    var holds: [UInt64] = []
    var count = 0
    for id in 1...UInt64(workers) {
      var operations: [CacheOperation] = []
      for prompt in prompts {
        let depth = Int(random.next() % UInt64(prompt.count + 1))
        operations += prompt[..<depth].map { CacheOperation(.stored, hash: $0) }
      }
      while operations.count < blocks { operations.append(CacheOperation(.stored, hash: random.next())) }
      operations.withUnsafeBufferPointer { all in
        var rest = all[...]
        while !rest.isEmpty {
          let began = Machine.monotonicNanoseconds
          let applied = router.applySlice(worker: id, UnsafeBufferPointer(rebasing: rest))
          holds.append(Machine.monotonicNanoseconds - began)
          rest = rest.dropFirst(applied)
        }
      }
      count += operations.count
    }
    let statistics = router.statistics
    let perBlock = Double(statistics.eventBytes) / Double(max(1, statistics.eventBlocks))
    say("apply: \(rate(count, holds.reduce(0, +))) operations/s; ")
    say("\(grouped(statistics.eventBlocks)) blocks of \(workers) workers, \(fixed(perBlock, 1)) bytes each\n")
    report("one hold of the lock", holds)
  }

  private func lookUp(_ router: inout Router, _ prompt: (Int) -> [UInt64]) -> [UInt64] {
    (0..<Self.lookUps).map { index in
      prompt(index).withUnsafeBufferPointer { chain in
        let began = Machine.monotonicNanoseconds
        _ = router.longestEventPrefix(chain)
        return Machine.monotonicNanoseconds - began
      }
    }
  }

  private func decide(_ prompts: [[UInt64]], _ router: inout Router, _ random: inout Xoshiro256) {
    let decision = RoutingDecision()
    var times: [UInt64] = []
    for index in 0..<Self.lookUps {
      prompts[index % prompts.count].withUnsafeBufferPointer { chain in
        var request = RoutingRequest(chain: chain, tokens: chain.count * Self.blockSize)
        request.explains = false
        let began = Machine.monotonicNanoseconds
        _ = router.select(request, now: began, random: &random, into: decision)
        times.append(Machine.monotonicNanoseconds - began)
        router.free(decision.booking, served: true, now: began)
      }
    }
    report("decision with booking", times)
  }

  private func report(_ what: String, _ times: [UInt64]) {
    let sorted = times.sorted()
    guard let most = sorted.last else { return }
    let (half, high) = (sorted[sorted.count / 2], sorted[sorted.count * 99 / 100])
    say("\(what): p50 \(half) ns, p99 \(high) ns, most \(most) ns\n")
  }

  private func rate(_ count: Int, _ nanoseconds: UInt64) -> String {
    readable(Double(count) / Double(max(1, nanoseconds)) * 1e9)
  }
}
