// The directory's rules as pure functions: exclusion, the age of records, answers to probes, the memory of models.

import Base
import Routing
import Testing
import Transport

@testable import Workers

struct ExclusionTests {
  @Test func theTimeDoublesToThirtySeconds() {
    var exclusion = Exclusion()
    var now = 100 * second
    var lengths: [UInt64] = []
    for _ in 0..<8 {
      let isNew = exclusion.failed(at: now)
      #expect(isNew)
      lengths.append((exclusion.until - now) / second)
      now = exclusion.until
    }
    #expect(lengths == [1, 2, 4, 8, 16, 30, 30, 30])
  }

  @Test func failuresDuringAnExclusionTellNothingNew() {
    var exclusion = Exclusion()
    let isNew = [
      exclusion.failed(at: 10 * second), exclusion.failed(at: 10 * second + 999 * millisecond),
    ]
    #expect(isNew == [true, false])
    #expect(exclusion.until == 11 * second)
    #expect(exclusion.isActive(at: 11 * second - 1))
    #expect(!exclusion.isActive(at: 11 * second))
  }

  @Test func onlyAnAnswerAfterItMakesTheNextOneShortAgain() {
    var exclusion = Exclusion()
    _ = exclusion.failed(at: 10 * second)
    exclusion.answered(at: 10 * second + 1)
    _ = exclusion.failed(at: 11 * second)
    #expect(exclusion.until == 13 * second)
    exclusion.answered(at: 13 * second)
    _ = exclusion.failed(at: 20 * second)
    #expect(exclusion.until == 21 * second)
  }
}

struct RecordAgeTests {
  private let now = 1_000 * second

  @Test(arguments: [
    (0, false, RecordAge.fresh), (0, true, .fresh), (10, true, .fresh), (11, false, .doubted),
    (11, true, .dead), (500, false, .doubted), (-60, true, .fresh),
  ])
  func aRecordIsDeadWhenNobodyTouchesItAndNobodyListens(_ age: Int, _ refused: Bool, _ verdict: RecordAge) {
    let touched = UInt64(Int(now) - age * Int(second))
    #expect(RecordAge(touched: touched, now: now, refused: refused) == verdict)
  }
}

struct ProbeAnswerTests {
  private func answer(_ text: String) throws -> ProbeAnswer {
    try Array(text.utf8).withUnsafeBytes { try ProbeAnswer.parse(models: $0) }
  }

  private func reading(_ metrics: String) -> ProbeAnswer {
    var answer = ProbeAnswer()
    Array(metrics.utf8).withUnsafeBytes { answer.read(metrics: $0) }
    return answer
  }

  @Test func modelsAreListedOnce() throws {
    let answer = try answer(
      #"{"object":"list","data":[{"id":"a","owned_by":"vllm"},{"id":"b/c"},{"id":"a"},{"id":""},{"x":1}]}"#)
    #expect(answer.models == ["a", "b/c"])
    #expect(!answer.isDynamoWorker)
    #expect(answer.blockSize == nil)
  }

  @Test func aModelMayTellOfTheCache() throws {
    let answer = try answer(
      #"{"data":[{"id":"a","owned_by":"dynamo-worker","kv_cache_block_size":32,"total_kv_blocks":7}]}"#)
    #expect(answer.blockSize == 32)
    #expect(answer.totalBlocks == 7)
    #expect(answer.isDynamoWorker)
  }

  @Test(arguments: [
    ("{", "not JSON"), ("[]", "no list"), (#"{"data":{}}"#, "no list"), (#"{"data":[]}"#, "no model"),
  ])
  func otherAnswersAreFailuresWithWords(_ text: String, _ words: String) {
    do {
      _ = try answer(text)
      Issue.record("\(text) was taken")
    } catch {
      let reason = (error as? ProbeFailure)?.reason ?? ""
      #expect(reason.contains(words), "\(reason)")
    }
  }

  @Test func aServerOfManyAdaptersIsCut() throws {
    let entries = (0..<1_000).map { #"{"id":"m\#($0)"}"# }.joined(separator: ",")
    #expect(try answer(#"{"data":[\#(entries)]}"#).models.count == ProbeAnswer.modelsMax)
  }

  @Test func vLLMTellsOfItsCacheInLabels() {
    let answer = reading(
      """
      # TYPE vllm:cache_config_info gauge
      vllm:cache_config_info{note="a,b=\\"1\\",block_size=\\"9\\"",block_size="32",x="",num_gpu_blocks="2000"} 1.0
      """)
    #expect(answer.blockSize == 32)
    #expect(answer.totalBlocks == 2_000)
    #expect(!answer.isDynamoWorker)
  }

  @Test(arguments: [
    "", "vllm:cache_config_info{", "vllm:cache_config_info{block_size", "vllm:cache_config_info{block_size=",
    #"vllm:cache_config_info{block_size=""#, #"vllm:cache_config_info{block_size="3"#,
    #"vllm:cache_config_info{block_size="None",num_gpu_blocks="0"} 1"#, "vllm:cache_config_info{} 1",
    #"vllm:cache_config_info{block_size="1\"#,
  ])
  func brokenMetricsTellNothing(_ text: String) {
    let answer = reading(text)
    #expect(answer.blockSize == nil)
    #expect(answer.totalBlocks == nil)
  }

  @Test func aDynamoWorkerIsKnownByItsMetrics() {
    #expect(reading("# HELP x y\ndynamo_component_uptime_seconds 3\n").isDynamoWorker)
    #expect(!reading("python_info 1\n").isDynamoWorker)
  }

  @Test func aFailureSaysWhatTheEngineSaid() {
    let body = Array(#"{"error":{"message":"Loading model","code":503}}"#.utf8)
    #expect(
      body.withUnsafeBytes { ProbeFailure.status(503, body: $0) }.reason == "status 503 'Loading model'")
    #expect(
      body.withUnsafeBytes { ProbeFailure.status(401, body: $0) }.reason.contains("--worker-api-key-file"))
  }
}

struct ModelCatalogTests {
  private func worker(_ id: UInt64, _ models: [String], ready: Bool = true, blockSize: Int = 16) -> Worker {
    Worker(
      id: id, url: "http://w:\(id)", upstream: Upstream(id: id, addresses: [], authority: "w"),
      source: .fixed,
      state: ready ? .ready : .unreachable("x"), models: models, blockSize: blockSize)
  }

  private func catalog() -> ModelCatalog { ModelCatalog(memory: 3_600 * second, modelsMax: 3) }

  @Test func aModelKeepsItsRoutingAndItsBirthday() throws {
    var catalog = catalog()
    catalog.update([worker(1, ["m"])], now: second, wallSeconds: 500)
    let first = try #require(catalog.models.first)
    #expect(first.routing.loads.map(\.worker) == [1])
    catalog.update([worker(1, ["m"]), worker(2, ["m", "n"])], now: 2 * second, wallSeconds: 600)
    #expect(catalog.models.map(\.name) == ["m", "n"])
    #expect(catalog.models[0].routing === first.routing)
    #expect(catalog.models.map(\.created) == [500, 600])
    #expect(catalog.models[0].workers.map(\.id) == [1, 2])
    #expect(first.routing.loads.map(\.worker).sorted() == [1, 2])
  }

  @Test func anUnchangedModelKeepsItsEntry() {
    var catalog = catalog()
    catalog.update([worker(1, ["m"])], now: second, wallSeconds: 1)
    let before = catalog.models[0]
    catalog.update([worker(1, ["m"]), worker(2, ["m"], ready: false)], now: second, wallSeconds: 2)
    #expect(catalog.models[0] === before)
  }

  @Test func aModelIsRememberedForAnHourAfterItWasServed() {
    var catalog = catalog()
    catalog.update([worker(1, ["m"])], now: second, wallSeconds: 1)
    #expect(catalog.nextExpiry == nil)
    let routing = catalog.models[0].routing
    catalog.update([worker(1, ["m"], ready: false)], now: 5_000 * second, wallSeconds: 1)
    #expect(catalog.models.map { $0.workers.count } == [0])
    #expect(routing.loads.isEmpty)
    #expect(catalog.nextExpiry == 8_600 * second)
    catalog.update([], now: 8_600 * second - 1, wallSeconds: 1)
    #expect(catalog.models.count == 1)
    catalog.update([worker(1, ["m"])], now: 8_600 * second - 1, wallSeconds: 1)
    #expect(catalog.models[0].routing === routing)
    catalog.update([], now: 9_000 * second, wallSeconds: 1)
    catalog.update([], now: 12_600 * second, wallSeconds: 1)
    #expect(catalog.models.isEmpty)
  }

  @Test func enginesThatReturnWithOtherBlocksBeginAnew() {
    var catalog = catalog()
    catalog.update([worker(1, ["m"])], now: second, wallSeconds: 1)
    let routing = catalog.models[0].routing
    catalog.update([], now: second, wallSeconds: 1)
    catalog.update([worker(1, ["m"], blockSize: 32)], now: second, wallSeconds: 1)
    #expect(catalog.models[0].routing !== routing)
    #expect(catalog.models[0].routing.options.blockSize == 32)
    #expect(catalog.models[0].created == 1)
  }

  @Test func workersOfOtherBlockSizesAreKnownByTheirOwn() {
    var catalog = catalog()
    let workers = [(1, 16), (2, 32), (3, 64), (4, 128), (5, 256), (6, 32)].map {
      worker(UInt64($0), ["m"], blockSize: $1)
    }
    catalog.update(workers, now: second, wallSeconds: 1)
    let model = catalog.models[0]
    #expect(model.blockSizes.model == 16 && model.blockSizes.others == [32, 64, 128])
    #expect(model.blockSizes.leftOut == 1)
    let known = model.routing.report(now: second).workers.map { ($0.load.worker, $0.blockSize) }
    #expect(known.map(\.0) == [1, 2, 3, 4, 5, 6])
    #expect(known.map(\.1) == [16, 32, 64, 128, 16, 32])
    // When one leaves, there is room for the size that was left out.
    catalog.update(workers.filter { $0.id != 3 }, now: second, wallSeconds: 1)
    #expect(catalog.models[0].blockSizes.leftOut == 0)
    #expect(catalog.models[0].routing === model.routing)
    #expect(model.routing.report(now: second).workers.map(\.blockSize) == [16, 32, 128, 256, 32])
  }

  @Test func modelsPastTheBoundAreCounted() {
    var catalog = catalog()
    catalog.update([worker(1, ["a", "b", "c", "d", "e"])], now: second, wallSeconds: 1)
    #expect(catalog.models.map(\.name) == ["a", "b", "c"])
    #expect(catalog.refusedCount == 2)
  }
}
