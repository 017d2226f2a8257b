// Hand-made routers and prompts for the tests of this room.

import Base

@testable import Routing

/// The chain of a prompt written as one number a block: equal numbers up to a place mean an equal prefix.
func chain(_ blocks: [UInt64]) -> [UInt64] {
  var result: [UInt64] = []
  for block in blocks {
    let local = XXH3.hash16(block, 0, seed: 7)
    result.append(result.last.map { XXH3.hash16($0, local, seed: 1337) } ?? local)
  }
  return result
}

/// A router with its lock-step extras: a random source, a decision object, a clock that only tests move.
final class Bench {
  var router: Router
  var random: Xoshiro256
  let decision = RoutingDecision()
  var now: Nanoseconds = 1000 * second

  init(
    workers: Int = 0, blocksMax: Int? = nil, seed: UInt64 = 1,
    _ change: (inout RoutingOptions) -> Void = { _ in }
  ) {
    var options = RoutingOptions()
    change(&options)
    router = Router(options: options)
    random = Xoshiro256(seed: seed)
    for id in 0..<workers { router.add(worker: UInt64(id + 1), blocksMax: blocksMax) }
  }

  @discardableResult
  func select(
    _ blocks: [UInt64], tokens: Int? = nil, named: UInt64? = nil,
    excluded: [(worker: UInt64, reason: RefusalReason)] = []
  ) -> RoutingOutcome {
    chain(blocks).withUnsafeBufferPointer { chain in
      var request = RoutingRequest(chain: chain, tokens: tokens ?? blocks.count * router.options.blockSize)
      request.named = named
      request.excluded = excluded
      return router.select(request, now: now, random: &random, into: decision)
    }
  }

  // What `#expect` cannot ask a noncopyable router itself.
  func load(of worker: UInt64) -> WorkerLoad? { router.load(of: worker) }
  func maintain() -> Bool { router.maintain(now: now) }

  /// Sends a request to a worker and ends it, so that its prefix counts as cached there.
  func serve(_ blocks: [UInt64], on worker: UInt64) {
    select(blocks, named: worker)
    router.free(decision.booking, served: true, now: now)
  }

  /// The overlap that each candidate has with a prompt, by worker id; nothing stays booked and nothing is predicted.
  func overlaps(_ blocks: [UInt64]) -> [Int: Int] {
    let chain = chain(blocks)
    return chain.withUnsafeBufferPointer { chain in
      for slot in 0..<router.index.workers.used {
        router.scratch.cached[slot] = 0
        router.scratch.active[slot] = 0
      }
      _ = router.index.match(chain, now: now, cached: router.scratch.cached, active: router.scratch.active)
      var result: [Int: Int] = [:]
      for slot in 0..<router.index.workers.used where router.index.workers.base[slot].isLive {
        result[Int(router.index.workers.base[slot].id)] = Int(router.scratch.cached[slot])
      }
      return result
    }
  }

  /// Selects for a chain as it is, one token block each.
  @discardableResult
  func selectChain(_ chain: [UInt64], _ change: (inout RoutingRequest) -> Void = { _ in }) -> RoutingOutcome {
    chain.withUnsafeBufferPointer {
      var request = RoutingRequest(chain: $0, tokens: $0.count * 16)
      change(&request)
      return router.select(request, now: now, random: &random, into: decision)
    }
  }

  /// The overlap by which a request for a chain was booked on a worker; it ends at once.
  func overlap(_ chain: [UInt64], _ worker: UInt64) -> Int {
    selectChain(chain) { $0.named = worker }
    router.free(decision.booking, served: true, now: now)
    return decision.overlapBlocks
  }
}
