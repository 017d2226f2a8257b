// Preprocess: what a body's bytes say about routing, as pure functions that a loop and the pool call alike.

internal import Base
internal import OpenAI
internal import Routing
internal import Workers

/// How the prompts of one model become blocks. Equal rules give equal blocks for equal bytes.
struct PromptRules: Sendable, Equatable {
  /// False in the routing modes that look at no prompt.
  let hashes: Bool
  /// Tokens in a block.
  let blockSize: Int

  init(_ options: RoutingOptions) {
    if case .kv = options.mode { hashes = true } else { hashes = false }
    blockSize = options.blockSize
  }

  /// How long a prompt of that many bytes is taken to keep a thread busy: white space removed and blocks hashed at 2
  /// bytes a nanosecond.
  func cost(ofBytes count: Int) -> Nanoseconds { hashes ? Nanoseconds(count) / 2 : 0 }
}

/// What is known of the prompt's length before an engine reports it.
struct PromptEstimate {
  /// Bytes of the canonical prompt; a token is about four of them.
  var bytes = 0
  /// Full blocks among them.
  var blockCount = 0
}

/// Makes routing's view of a prompt, in memory that is used again for the next one. Each loop has one; a request that
/// went to the pool brings its own back. One thread uses it at a time.
///
/// Every step is a function of the body's bytes and of the rules alone, so that it does not matter where it runs.
final class Preprocessor {
  private var blocks = PromptBlocks()
  private var canonical = ByteBuffer()
  /// Length of the prompt that was prepared last.
  private(set) var estimate = PromptEstimate()
  /// By which rules it was prepared; nil before the first.
  private(set) var rules: PromptRules?

  /// The prompt's blocks; valid until the next prompt is prepared.
  var chain: UnsafeBufferPointer<UInt64> { blocks.chain }

  /// The first step: the body as a validated request. Throws the 400 to answer with.
  static func decode(_ body: UnsafeRawBufferPointer, _ endpoint: Endpoint) throws(APIError)
    -> InferenceRequest
  {
    try InferenceRequest.parse(body, endpoint: endpoint)
  }

  /// The second step: cuts the canonical prompt into blocks and chains their hashes.
  func prepare(_ request: InferenceRequest, in body: UnsafeRawBufferPointer, by rules: PromptRules) {
    self.rules = rules
    guard rules.hashes else {
      blocks.removeAll()
      estimate = PromptEstimate(bytes: request.promptBytes, blockCount: 0)
      return
    }
    let seed =
      request.cacheSalt.map { salt in
        PromptBlocks.seed(
          adapter: UnsafeRawBufferPointer(start: nil, count: 0), salt: body.slice(salt))
      } ?? PromptBlocks.seed
    if let slice = request.canonicalSlice(of: body) {
      hash(slice, rules, seed)
    } else {
      canonical.removeAll()
      request.canonical(of: body, into: &canonical)
      hash(canonical.readable, rules, seed)
      // An unusually long prompt's memory is given back.
      if canonical.capacity > 1 << 20 { canonical.release() }
    }
  }

  private func hash(_ prompt: UnsafeRawBufferPointer, _ rules: PromptRules, _ seed: UInt64) {
    blocks.hash(bytes: prompt, blockSize: rules.blockSize, seed: seed)
    estimate = PromptEstimate(bytes: prompt.count, blockCount: blocks.count)
  }
}

extension InferenceRequest {
  /// Bytes of the prompt as it stands in the body.
  var promptBytes: Int { (messages ?? prompt)?.count ?? 0 }
}

extension WorkerSet {
  /// The model that `request` names, by index into ``models``; nil when it is not known.
  func modelIndex(of request: InferenceRequest, in body: UnsafeRawBufferPointer) -> Int? {
    guard request.modelHasEscapes else { return modelIndex(body.slice(request.model)) }
    let name = request.modelName(in: body)
    return models.firstIndex { $0.name == name }
  }
}
