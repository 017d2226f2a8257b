// An attached engine that speaks OpenAI's API, as one loop sees it: its connections and who is in flight there.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Transport

/// Relays requests to a running engine.
final class OpenAIBackend: EngineBackend {
  let worker: WorkerLoop
  let pool: UpstreamPool
  /// `Bearer` and the key; empty when the engine wants none.
  let authorization: [UInt8]
  /// Where the engine is; replaced when its name resolves to something else.
  var upstream: Upstream
  /// Called when the engine could not be reached, so that its name is looked up again.
  let unreachable: () -> Void
  let endpoints = EndpointSet.all
  private var idsInFlight: Set<[UInt8]> = []

  init(
    _ upstream: Upstream, apiKey: String?, limits: ClientLimits, on worker: WorkerLoop,
    unreachable: @escaping () -> Void
  ) {
    self.worker = worker
    self.upstream = upstream
    self.unreachable = unreachable
    authorization = apiKey.map { Array("Bearer \($0)".utf8) } ?? []
    pool = UpstreamPool(loop: worker.loop, limits: limits)
  }

  func generate(
    for exchange: InferenceExchange, _ request: InferenceRequest
  ) throws(APIError) -> any Generation {
    let generation = OpenAIGeneration(exchange, backend: self)
    generation.start(fresh: false)
    return generation
  }

  /// The id under which the engine is to know a request: the caller's own, with a tail when another request of that
  /// name is there at the moment, because engines key requests by it.
  func admit(_ id: [UInt8], again: Bool) -> [UInt8] {
    if !again, idsInFlight.insert(id).inserted { return id }
    var tail = ByteBuffer(capacity: 16)
    tail.append(hex: worker.loop.random.next())
    let other = id + [UInt8(ascii: "-")] + tail.bytes.prefix(8)
    idsInFlight.insert(other)
    return other
  }

  func dismiss(_ id: [UInt8]) { idsInFlight.remove(id) }

  func close() { pool.closeIdle() }
}
