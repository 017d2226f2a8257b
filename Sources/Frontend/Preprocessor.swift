// Preprocess: what a body's bytes say about routing, as pure functions that a loop and the pool call alike.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Prompts
internal import Routing
internal import Tenants
internal import Tokenizer
internal import Workers

/// A body that was decoded. One object, because a copy of all the places that it names would be made at each step.
final class DecodedRequest: Sendable {
  let fields: InferenceRequest

  init(_ fields: consuming InferenceRequest) { self.fields = fields }
}

/// How the prompts of one model become blocks. Equal rules give equal blocks for equal bytes.
final class PromptRules: Sendable, Equatable {
  /// False in the routing modes that look at no prompt.
  let hashes: Bool
  /// Tokens in a block, of the model and of workers with others.
  let blockSizes: BlockSizes
  /// Makes tokens of the prompts; nil where bytes are hashed.
  let tokenizer: ModelTokenizer?
  /// Whose tokens they are to be.
  let engine: ChatTemplateRules.Engine

  /// Whether a tenant's prompts are kept apart: not where the engine does not.
  var takesCacheSalt: Bool {
    if case .llamaCpp = engine { false } else { true }
  }

  /// Name of the LoRA adapter whose blocks they are to be.
  let adapter: String?

  init(
    _ options: RoutingOptions, tokenizer: ModelTokenizer? = nil, engine: EngineKind = .unknown,
    adapter: String? = nil, blockSizes: BlockSizes? = nil
  ) {
    self.adapter = adapter
    self.tokenizer = tokenizer
    self.engine = ChatTemplateRules.Engine(engine)
    if case .kv = options.mode { hashes = true } else { hashes = false }
    self.blockSizes = blockSizes ?? BlockSizes(model: options.blockSize)
  }

  static func == (a: PromptRules, b: PromptRules) -> Bool {
    a === b
      || a.hashes == b.hashes && a.blockSizes == b.blockSizes && a.tokenizer == b.tokenizer
        && a.engine == b.engine
        && a.adapter == b.adapter
  }

  /// How long a prompt of that many bytes is taken to keep a thread busy: white space removed and blocks hashed at 2
  /// bytes a nanosecond, or rendered and encoded, with nothing in the caches, at 50 MB/s. Blocks of each further size are
  /// hashed at 4 bytes a nanosecond (nearly 5 measured; a token's four bytes stand for about four of the text).
  func cost(ofBytes count: Int) -> Nanoseconds {
    guard hashes else { return 0 }
    let first = tokenizer == nil ? Nanoseconds(count) / 2 : Nanoseconds(count) * 20
    return first + Nanoseconds(count) / 4 * Nanoseconds(blockSizes.others.count)
  }
}

/// What is known of the prompt's length before an engine reports it, and how it came about.
struct PromptEstimate {
  /// Bytes of the canonical prompt, or of the prompt in the body where there are tokens; a token is about four of them.
  var bytes = 0
  /// The prompt's tokens where they were made.
  var tokens: Int?
  /// Why there are none although there is a tokenizer: a word for a metric's label.
  var failure: String?
  /// When rendering and encoding ran.
  var times = PromptEncoder.Times()
  /// How long its blocks took, where that was not on the request's loop.
  var hashing: Nanoseconds?
  /// Full blocks among them.
  var blockCount = 0
}

/// Makes routing's view of a prompt, in memory that is used again for the next one. Each loop has one; a request that
/// went to the pool brings its own back. One thread uses it at a time.
///
/// Every step is a function of the body's bytes and of the rules alone, so that it does not matter where it runs.
final class Preprocessor {
  private var blocks = PromptBlocks()
  /// The prompt's blocks in further sizes. Boxes, because chains are not copied.
  private var otherBlocks: [OtherBlocks] = []
  private var canonical = ByteBuffer()
  /// A loop keeps its encoder; a job of the pool borrows one, so that there are as many as threads.
  private let keepsEncoder: Bool
  private var kept: (model: ModelTokenizer, encoder: PromptEncoder)?
  /// Whether ``tail`` is made.
  private let hashesTail: Bool
  /// The hash of the prompt up to its end, where that lies inside a block.
  private(set) var tail: UInt64?
  /// Length of the prompt that was prepared last.
  private(set) var estimate = PromptEstimate()
  /// By which rules it was prepared; nil before the first.
  private(set) var rules: PromptRules?

  init(keepsEncoder: Bool = false, hashesTail: Bool = false) {
    self.keepsEncoder = keepsEncoder
    self.hashesTail = hashesTail
  }

  /// The prompt's blocks in the model's size; valid until the next prompt is prepared.
  var chain: UnsafeBufferPointer<UInt64> { blocks.chain }

  /// Its blocks in the further sizes of the model's workers; valid as long.
  var otherChains: [SizedChain] {
    otherBlocks.isEmpty ? [] : otherBlocks.map { SizedChain(blockSize: $0.blockSize, chain: $0.blocks.chain) }
  }

  private final class OtherBlocks {
    let blockSize: Int
    var blocks = PromptBlocks()

    init(blockSize: Int) { self.blockSize = blockSize }
  }

  /// The first step: the body as a validated request. Throws the 400 to answer with.
  static func decode(_ body: UnsafeRawBufferPointer, _ endpoint: Endpoint) throws(APIError)
    -> InferenceRequest
  {
    // A message of Anthropic's API is a chat by now.
    try InferenceRequest.parse(body, endpoint: endpoint.isAnthropic ? .chatCompletions : endpoint)
  }

  /// The second step: cuts the prompt's tokens, or the canonical prompt, into blocks and chains their hashes. `clock` is
  /// read for spans, and for templates that show the date.
  ///
  /// - Parameter tenant: the name of whom the prompt's blocks belong to; empty where there are no tenants.
  func prepare(
    _ request: InferenceRequest, in body: UnsafeRawBufferPointer, by rules: PromptRules, tenant: [UInt8] = [],
    clock: (any SystemCalls)? = nil
  ) {
    self.rules = rules
    let others = rules.hashes ? rules.blockSizes.others : []
    if others != otherBlocks.map(\.blockSize) { otherBlocks = others.map { OtherBlocks(blockSize: $0) } }
    guard rules.hashes, request.endpoint.generates else {
      for other in otherBlocks { other.blocks.removeAll() }
      blocks.removeAll()
      estimate = PromptEstimate(bytes: request.promptBytes, blockCount: 0)
      return
    }
    var seed = Self.seed(request, in: body, rules, tenant)
    var failure: String?
    if let tokenizer = rules.tokenizer {
      failure = hashTokens(request, in: body, rules, tokenizer, seed, clock)
      guard failure != nil else { return }
      seed = PromptBlocks.seedOfBytesAmongTokens(seed)
    }
    let times = estimate.times
    if let slice = request.canonicalSlice(of: body) {
      hash(slice, rules, seed)
    } else {
      canonical.removeAll()
      request.canonical(of: body, into: &canonical)
      hash(canonical.readable, rules, seed)
      // An unusually long prompt's memory is given back.
      if canonical.capacity > 1 << 20 { canonical.release() }
    }
    if let failure {
      estimate.failure = failure
      estimate.times = times
    }
  }

  /// The prompt was prepared in that time, away from its request's loop.
  func wasPrepared(from began: Nanoseconds, to ended: Nanoseconds) {
    estimate.hashing = ended - min(max(began, estimate.times.encoded), ended)
  }

  private static func seed(
    _ request: InferenceRequest, in body: UnsafeRawBufferPointer, _ rules: PromptRules, _ tenant: [UInt8]
  ) -> UInt64 {
    let own = request.cacheSalt.map { body.slice($0) } ?? UnsafeRawBufferPointer(start: nil, count: 0)
    // As the engine has it (``InferenceExchange/saltEdit(for:)``).
    guard !tenant.isEmpty, rules.takesCacheSalt else { return seed(rules, salt: own) }
    return TenantName.salt(tenant, own: own).withUnsafeBytes { seed(rules, salt: $0) }
  }

  private static func seed(_ rules: PromptRules, salt: UnsafeRawBufferPointer) -> UInt64 {
    guard var adapter = rules.adapter else {
      return PromptBlocks.seed(adapter: UnsafeRawBufferPointer(start: nil, count: 0), salt: salt)
    }
    return adapter.withUTF8 { PromptBlocks.seed(adapter: UnsafeRawBufferPointer($0), salt: salt) }
  }

  /// Makes blocks of the prompt's tokens; says why when it cannot.
  private func hashTokens(
    _ request: InferenceRequest, in body: UnsafeRawBufferPointer, _ rules: PromptRules,
    _ model: ModelTokenizer, _ seed: UInt64, _ clock: (any SystemCalls)?
  ) -> String? {
    let encoder = encoder(of: model)
    defer { if keepsEncoder { encoder.trim() } else { model.putBack(encoder) } }
    do throws(PromptFailure) {
      try encoder.encode(promptOf: body, request.endpoint, as: rules.engine, clock: clock)
    } catch {
      estimate.times = encoder.times
      return error.reason
    }
    hash(blocksOf: UnsafeRawBufferPointer(encoder.ids.buffer), rules, seed)
    estimate = PromptEstimate(
      bytes: request.promptBytes, tokens: encoder.ids.count, times: encoder.times, blockCount: blocks.count)
    return nil
  }

  private func encoder(of model: ModelTokenizer) -> PromptEncoder {
    guard keepsEncoder else { return model.takeEncoder() }
    if let kept, kept.model === model { return kept.encoder }
    let encoder = PromptEncoder(model.parts)
    kept = (model, encoder)
    return encoder
  }

  private func hash(_ prompt: UnsafeRawBufferPointer, _ rules: PromptRules, _ seed: UInt64) {
    hash(blocksOf: prompt, rules, seed)
    estimate = PromptEstimate(bytes: prompt.count, blockCount: blocks.count)
  }

  /// Cuts tokens or canonical bytes into blocks of every size that is asked for.
  private func hash(blocksOf bytes: UnsafeRawBufferPointer, _ rules: PromptRules, _ seed: UInt64) {
    blocks.hash(bytes: bytes, blockSize: rules.blockSizes.model, seed: seed)
    if hashesTail { tail = blocks.tail(of: bytes, blockSize: rules.blockSizes.model, seed: seed) }
    for other in otherBlocks { other.blocks.hash(bytes: bytes, blockSize: other.blockSize, seed: seed) }
  }
}

extension InferenceRequest {
  /// Bytes of the prompt as it stands in the body.
  var promptBytes: Int { ((messages ?? prompt)?.count ?? 0) + (instructions?.count ?? 0) }
}

extension ServedModel {
  /// How its prompts become blocks.
  func promptRules(_ tokenizer: ModelTokenizer?) -> PromptRules {
    PromptRules(
      routing.options, tokenizer: tokenizer, engine: engine, adapter: isAdapter ? name : nil,
      blockSizes: blockSizes)
  }
}

extension WorkerSet {
  /// The model that `request` names, by index into ``models``; nil when it is not known.
  func modelIndex(of request: InferenceRequest, in body: UnsafeRawBufferPointer) -> Int? {
    guard request.modelHasEscapes else { return modelIndex(body.slice(request.model)) }
    let name = request.modelName(in: body)
    return models.firstIndex { $0.name == name }
  }
}

extension ChatTemplateRules.Engine {
  /// Dynamo's way with an engine that does not say what it is: as vLLM.
  init(_ kind: EngineKind) {
    switch kind {
    case .vllm, .simulated, .unknown: self = .vllm
    case .sglang: self = .sglang
    case .llamaCpp: self = .llamaCpp
    }
  }
}
