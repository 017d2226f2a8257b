// What is kept of a running stream so that another worker can go on with it, and how that one's events become its own.

internal import Base
internal import JSON
internal import OpenAI

/// How far running streams move to other workers.
package struct MigrationRules: Sendable, Equatable {
  /// Times that one stream may move (`--migration-limit`); 0 keeps nothing of any stream.
  package var limit = 0
  /// Prompt and answer tokens past which a stream does not move; nil for no bound.
  package var sequenceMax: Int?
  /// Streams that one loop moves in a wake-up; the others of a worker that died follow in the next ones.
  package var perWakeUp = 16

  package init() {}
}

/// Where an attempt took a stream over, for its span.
struct MigrationNote {
  let reason: StaticString
  let fromWorker: UInt64
  /// Tokens that the caller had by then.
  let tokens: Int
}

/// One stream that may move. Loop-confined; there only where a limit is set and the request allows it.
final class Migration {
  /// Times that the stream may move.
  let limit: Int

  init(limit: Int = 1) { self.limit = limit }

  /// Bytes of text that are kept at most; a longer answer moves no more.
  static let textBytesMax = 256 * 1024
  /// Bytes of body memory that are taken at a time for what is kept.
  static let memoryStep = 4 * 1024

  /// The stream can no longer be continued: it is over, or has more to it than text, or is too long to be kept.
  private(set) var isHindered = false
  /// What the caller has of the answer, decoded.
  private(set) var text = ByteBuffer()
  /// The values of `id` and `created` in all its events.
  private var id: [UInt8] = []
  private var created: [UInt8] = []
  private var hasRole = false

  /// Times that it moved.
  private(set) var moves = 0
  /// Of these, moves to workers that were never reached.
  private var forgiven = 0
  /// Moves that count against the limit.
  var countedMoves: Int { moves - forgiven }
  /// The move under way or the last one.
  private(set) var note: MigrationNote?
  /// When it broke off, while no token has come since.
  private(set) var brokenAt: Nanoseconds?
  /// The body that the next worker gets, and what was read of it.
  private var body = ByteBuffer()
  private var request: DecodedRequest?

  /// Bytes that it keeps: the text, and the body for the next worker.
  var keptBytes: Int { text.count + body.count }

  /// True from the first move on: events are another worker's, and become the first one's.
  var isContinuing: Bool { moves > 0 }

  /// Takes note of an event that the caller gets.
  func observe(_ data: UnsafeRawBufferPointer) {
    guard !isHindered else { return }
    if data.equals("[DONE]") { return hinder() }
    guard let chunk = StreamChunk(data) else { return hinder() }
    observe(chunk, data)
  }

  private func observe(_ chunk: StreamChunk, _ data: UnsafeRawBufferPointer) {
    if id.isEmpty, let range = chunk.id {
      id = Array(data.slice(range))
      if let range = chunk.created { created = Array(data.slice(range)) }
    }
    if chunk.hasRole { hasRole = true }
    if let range = chunk.text {
      // An escape is never shorter than what it stands for.
      guard text.count + range.count <= Self.textBytesMax else { return hinder() }
      text.append(decoding: data.slice(range))
    }
    if chunk.isLast || chunk.hasMoreThanText || chunk.choiceCount > 1 { hinder() }
  }

  /// It moves no more: what would be needed for that goes. What makes events the first worker's stays.
  func hinder() {
    isHindered = true
    text.release()
    body.release()
    request = nil
  }

  /// Appends an event of the worker that goes on, as the first worker would have sent it. False when the caller had it.
  func rewrite(_ data: UnsafeRawBufferPointer, into output: inout ByteBuffer) -> Bool {
    guard let chunk = StreamChunk(data) else {
      if !isHindered { observe(data) }
      output.append(data)
      return true
    }
    if hasRole, chunk.isRoleAlone { return false }
    let keepsRole = !hasRole
    if !isHindered { observe(chunk, data) }
    chunk.write(
      data, id: id, created: created, carried: note?.tokens ?? 0, keepsRole: keepsRole, into: &output)
    return true
  }

  /// Makes the body by which another worker goes on; false when there is none.
  func prepare(_ original: InferenceRequest, _ body: UnsafeRawBufferPointer, tokens: Int) -> Bool {
    self.body.removeAll()
    guard
      original.writeContinuation(of: body, text: text.readable, tokens: tokens, into: &self.body)
    else { return false }
    do throws(APIError) {
      request = DecodedRequest(
        try InferenceRequest.parse(self.body.readable, endpoint: original.endpoint))
      return true
    } catch {
      return false
    }
  }

  /// Its next attempt takes the stream over at `time`.
  func move(_ note: MigrationNote, at time: Nanoseconds) {
    moves += 1
    self.note = note
    brokenAt = brokenAt ?? time
  }

  /// Nobody could be chosen: the move after `earlier`, begun with ``move(_:at:)``, never was.
  func undoMove(_ earlier: (note: MigrationNote?, brokenAt: Nanoseconds?)) {
    moves -= 1
    (note, brokenAt) = earlier
  }

  /// The worker that was to go on was never reached: that is none of the times that the stream may go on.
  func forgiveMove() {
    if forgiven < moves { forgiven += 1 }
  }

  /// The first token came since it broke off; gives when that was, once.
  func resume() -> Nanoseconds? {
    defer { brokenAt = nil }
    return brokenAt
  }

  /// Swaps the body to be sent with the one as it came, and back.
  func swapBody(_ body: inout ByteBuffer, _ request: inout DecodedRequest?) {
    swap(&self.body, &body)
    swap(&self.request, &request)
  }
}
