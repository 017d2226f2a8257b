// The request-trace record of a finished request, where records are asked for (DYN_REQUEST_TRACE).

internal import Base
internal import EventLoop
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Keeps the prompt's hashes until the request's end: the memory that they are in is the next prompt's.
  func keepPromptHashes(_ preprocessor: Preprocessor) {
    guard let rules = preprocessor.rules, rules.hashes else { return }
    var hashes = Array(preprocessor.chain)
    if let tail = preprocessor.tail { hashes.append(tail) }
    let length = prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes)
    let blockSize = rules.blockSizes.model
    // A replay takes the blocks to cover the whole prompt: a chain that was cut says less than none.
    guard hashes.count == (length + blockSize - 1) / blockSize else { return }
    hashedPrompt = RequestTraceRecord.Prompt(
      blockSize: blockSize, length: length, hashes: hashes, isOfTokens: prompt.tokens != nil)
  }

  /// Writes the record of a request that was for a known model and whose prompt was looked at; of others there is
  /// nothing to replay. Several choices are several generations: one record cannot tell of them, nor can Dynamo's.
  func recordRequestTrace() {
    guard let request, endpoint.generates, model != nil, times.preprocessed > 0, request.fields.choices == 1,
      service.recordsTrace(of: identity.requestID)
    else { return }
    identity.xRequestID.withUnsafeBytes { xRequestID in
      var name = metrics.model
      name.withUTF8 { name in
        var record = RequestTraceRecord(
          requestID: identity.requestID, xRequestID: xRequestID, model: UnsafeRawBufferPointer(name),
          endpoint: endpoint.label, isStream: request.fields.stream, status: status,
          outcome: outcome ?? .error,
          received: times.wall, ended: times.wallTime(times.ended), totalTime: times.ended - times.began)
        record.traceID = trace?.root.traceID
        record.session = hints?.session?.key
        record.finishReason = finishReason.name
        record.workerID = attempt?.worker.id
        record.maxTokens = request.fields.maxTokens
        record.inputTokens = usage?.promptTokens
        record.outputTokens = outputTokens
        record.cachedTokens = usage?.cachedTokens
        if let prefill, attempt?.isDecode == true {
          record.prefillWait = prefill.began - min(times.began, prefill.began)
          record.prefillTime = prefill.ended - min(prefill.began, prefill.ended)
        } else if times.selected > 0 {
          record.prefillWait = times.selected - min(times.began, times.selected)
          if times.firstToken > 0 {
            record.prefillTime = times.firstToken - min(times.selected, times.firstToken)
          }
        }
        if times.firstToken > 0 { record.timeToFirstToken = times.firstToken - times.began }
        record.averageInterTokenLatency = averageInterTokenLatency
        record.prompt = hashedPrompt
        service.record(record)
      }
    }
  }
}
