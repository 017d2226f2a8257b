// Answers to messages of Anthropic's API that a worker gave as chat completions, and what is kept of responses.

internal import Anthropic
internal import Base
internal import EventLoop
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Keeps a part of an answer until it is whole; gives up on one that becomes too long for that.
  func holdForTranslation(_ attempt: Attempt, _ bytes: UnsafeRawBufferPointer) {
    guard answer.count + bytes.count <= Self.unaryBytesMax else {
      attempt.cancel(.error, "invalid_response")
      answer.release()
      answer(.badGateway("its answer is too long to be translated"), outcome: .error)
      return
    }
    noteFirstBytes(isHeld: true)
    answer.append(bytes)
  }

  /// Sends the held answer in the form of the caller's API. Ends the attempt, unless its end was told before.
  func translateAnswer(_ attempt: Attempt) {
    var message = ByteBuffer(capacity: answer.count + 256)
    if (200..<300).contains(attempt.status) {
      var id = ByteBuffer(capacity: 36)
      id.append(identity.requestID)
      guard MessagesAnswer.write(answer.readable, id: id.text, model: metrics.model, into: &message) else {
        answer.release()
        attempt.end(.error, "invalid_response")
        answer(.badGateway("its answer is no chat completion"), outcome: .error)
        return
      }
    } else {
      MessagesAnswer.writeError(answer.readable, status: attempt.status, into: &message)
    }
    if attempt.isCurrent { endAttempt(attempt) }
    tellHeldFirst()
    answer.release()
    lengthOfAnswer = message.count
    responseBytes = message.count
    commit()
    exchange.send(message.readable)
    phase = .answered
    finishResponse(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// A request that follows this response goes to the worker that made it, which may have kept it.
  func rememberResponse(_ id: [UInt8]) {
    guard !id.isEmpty, let attempt, let model else { return }
    let key = id.withUnsafeBytes { XXH3.hash($0, seed: Self.responseSeed) }
    model.routing.moveSession(
      RoutingSession(key: key, isHard: false), to: attempt.worker.id, now: loop.now)
  }
}
